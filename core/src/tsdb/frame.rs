//! Files of frames: what is written is whole or is not there.
//!
//! ```text
//! file:   "BBUOY" | kind | version | 0 | required features, u64 LE | frame…
//! frame:  "\xbb\x0e\xf0\x01" | length u32 LE | crc32 of the payload, u32 LE | payload
//! ```
//! A reader that meets damage looks for the next frame mark and says what it left out. A version or feature that it does
//! not know is refused: a newer Bellbuoy wrote the file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::disk::{self, DiskFile};
use super::varint::Cursor;
use super::{Result, StorageError};

pub const HEADER_BYTES: usize = 16;
const FILE_MARK: &[u8; 5] = b"BBUOY";
const FRAME_MARK: [u8; 4] = [0xbb, 0x0e, 0xf0, 0x01];
pub const FRAME_BYTES: usize = 12;
/// A frame that claims to be longer is damage.
const FRAME_LIMIT: usize = 256 << 20;

/// What a file holds, and the newest version of it that this program reads and writes.
#[derive(Clone, Copy)]
pub struct Kind {
    pub letter: u8,
    pub version: u8,
    pub noun: &'static str,
    /// Required features that this program knows.
    pub features: u64,
}

/// Samples of some series in the block are histograms.
pub const HISTOGRAMS: u64 = 1;

pub const WAL: Kind = Kind { letter: b'W', version: 1, noun: "log segment", features: 0 };
pub const CATALOG: Kind = Kind { letter: b'G', version: 1, noun: "catalog", features: 0 };
pub const CHUNKS: Kind = Kind { letter: b'C', version: 1, noun: "chunk file", features: 0 };
pub const TOMBSTONES: Kind = Kind { letter: b'T', version: 1, noun: "list of deletions", features: 0 };
pub const BLOCK: Kind = Kind { letter: b'B', version: 1, noun: "block", features: HISTOGRAMS };

pub fn header(kind: Kind) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..5].copy_from_slice(FILE_MARK);
    out[5] = kind.letter;
    out[6] = kind.version;
    out
}

/// Refuses what this program cannot read; gives the features that the file needs.
pub fn check_header(kind: Kind, bytes: &[u8], path: &Path) -> Result<u64> {
    let what = || format!("{} {}", kind.noun, path.display());
    if bytes.len() < HEADER_BYTES || &bytes[..5] != FILE_MARK || bytes[5] != kind.letter {
        return Err(StorageError::corrupt(what(), "its header is damaged"));
    }
    if bytes[6] != kind.version {
        let reason = format!("it has version {}, this Bellbuoy reads version {}", bytes[6], kind.version);
        return Err(StorageError::Newer { what: what(), reason });
    }
    let features = Cursor::new(&bytes[8..HEADER_BYTES]).u64()?;
    if features & !kind.features != 0 {
        let unknown = features & !kind.features;
        let reason = format!("it needs feature bits {unknown:#x}, which this Bellbuoy does not know");
        return Err(StorageError::Newer { what: what(), reason });
    }
    Ok(features)
}

/// Puts the right header before the frames of a file whose own is damaged, and says how many bytes that were: it costs no
/// frame. A newer file is refused.
pub fn mend_header(kind: Kind, bytes: &mut Vec<u8>, path: &Path) -> Result<usize> {
    match check_header(kind, bytes, path) {
        Ok(_) => Ok(0),
        Err(e @ StorageError::Newer { .. }) => Err(e),
        Err(_) => {
            bytes.resize(bytes.len().max(HEADER_BYTES), 0);
            bytes[..HEADER_BYTES].copy_from_slice(&header(kind));
            Ok(HEADER_BYTES)
        }
    }
}

pub fn put_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(&FRAME_MARK);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Walks the frames of a file's bytes, from behind the header on.
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bytes passed over as damaged.
    pub lost: usize,
    /// End of the last whole frame.
    pub good_end: usize,
}

impl<'a> Frames<'a> {
    pub fn new(bytes: &'a [u8]) -> Frames<'a> {
        Frames { bytes, at: HEADER_BYTES, lost: 0, good_end: HEADER_BYTES }
    }

    fn whole_at(&self, at: usize) -> Option<&'a [u8]> {
        let head = self.bytes.get(at..at + FRAME_BYTES)?;
        if head[..4] != FRAME_MARK {
            return None;
        }
        let length = u32::from_le_bytes(head[4..8].try_into().ok()?) as usize;
        let payload = self.bytes.get(at + FRAME_BYTES..(at + FRAME_BYTES).checked_add(length)?)?;
        (length <= FRAME_LIMIT && crc32fast::hash(payload) == u32::from_le_bytes(head[8..12].try_into().ok()?)).then_some(payload)
    }
}

impl<'a> Iterator for Frames<'a> {
    /// Where the payload starts, and the payload.
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<(usize, &'a [u8])> {
        while self.at < self.bytes.len() {
            if let Some(payload) = self.whole_at(self.at) {
                let start = self.at + FRAME_BYTES;
                self.at = start + payload.len();
                self.good_end = self.at;
                return Some((start, payload));
            }
            let from = self.at + 1;
            let next =
                memchr::memmem::find(self.bytes.get(from..).unwrap_or(&[]), &FRAME_MARK).map_or(self.bytes.len(), |i| from + i);
            self.lost += next - self.at;
            self.at = next;
        }
        None
    }
}

/// A file that grows by whole frames. A write that fails leaves no half frame behind it.
pub struct FrameFile {
    file: DiskFile,
    length: u64,
    dirty: bool,
}

impl FrameFile {
    pub fn create(kind: Kind, path: &Path) -> Result<FrameFile> {
        let mut out = FrameFile { file: DiskFile::create(path)?, length: 0, dirty: false };
        out.append(&header(kind))?;
        Ok(out)
    }

    /// A file of its own that is never seen without its header, durable from the first moment.
    pub fn create_whole(kind: Kind, path: &Path) -> Result<FrameFile> {
        disk::replace(path, &header(kind))?;
        FrameFile::resume(path, HEADER_BYTES)
    }

    /// Opens at the end of the last whole frame; what lies behind it is cut off.
    pub fn resume(path: &Path, length: usize) -> Result<FrameFile> {
        let file = DiskFile::open(path)?;
        file.set_length(length as u64)?;
        Ok(FrameFile { file, length: length as u64, dirty: true })
    }

    /// Appends bytes that hold whole frames; returns where they start. What was written by an append that failed is
    /// overwritten by the next one, or cut off at the next start.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let start = self.length;
        self.file.write_at(bytes, start)?;
        self.length += bytes.len() as u64;
        self.dirty = true;
        Ok(start)
    }

    pub fn sync(&mut self) -> Result<()> {
        if self.dirty {
            self.file.sync()?;
            self.dirty = false;
        }
        Ok(())
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut f| f.read_to_end(&mut bytes)).map_err(|e| StorageError::file("read", path, &e))?;
    Ok(bytes)
}

/// Keeps a copy of a file of which not all could be read, before it is written to or deleted; returns its path.
pub fn keep_damaged(path: &Path) -> Result<PathBuf> {
    let aside = path.with_extension("damaged");
    std::fs::copy(path, &aside).map_err(|e| StorageError::file("copy", path, &e))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn damage_costs_the_damaged_frames_and_invents_none(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..8), at in any::<prop::sample::Index>(), with in 1u8..
        ) {
            let mut bytes = header(WAL).to_vec();
            payloads.iter().for_each(|p| put_frame(&mut bytes, p));
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] ^= with;
            let got: Vec<Vec<u8>> = Frames::new(&bytes).map(|f| f.1.to_vec()).collect();
            prop_assert_eq!(got.len(), payloads.len() - 1);
            prop_assert!(got.iter().all(|g| payloads.contains(g)));
        }
    }
}
