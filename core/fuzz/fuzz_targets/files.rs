//! The storage's files: whatever bytes they hold, a reader gives an error or an answer, and neither panics nor asks for memory
//! that the bytes cannot be worth. So it is with Prometheus's chunks of histograms, which are imported.
//!
//! The first byte says what is read. Checksums are made right, since a reader that stops at them tries nothing.

#![no_main]

use bellbuoy_core::histogram::chunks;
use bellbuoy_core::tsdb::block::{encode_tail, Block, IndexPlace, Span};
use bellbuoy_core::tsdb::codec::{self, Decoder, Encoder};
use bellbuoy_core::tsdb::columns::ColumnSets;
use bellbuoy_core::tsdb::frame::{self, Frames};
use bellbuoy_core::tsdb::tombstones::Tombstones;
use bellbuoy_core::tsdb::varint::Cursor;
use bellbuoy_core::tsdb::{catalog, row, wal};
use libfuzzer_sys::fuzz_target;

const ROWS_LIMIT: usize = 512;

/// What is read and written again reads as the same.
fn column(bytes: &[u8], rows: usize) {
    let (mut decoder, mut values) = (Decoder::default(), Vec::new());
    let _ = codec::count_samples(bytes, rows);
    if decoder.decode(&mut Cursor::new(bytes), rows, &mut values).is_err() {
        return;
    }
    let (mut again, mut other) = (Vec::new(), Vec::new());
    Encoder::default().encode(&values, &mut again);
    decoder.decode(&mut Cursor::new(&again), rows, &mut other).unwrap();
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<u64>>();
    assert_eq!(bits(&values), bits(&other));
}

fn integers(bytes: &[u8]) {
    let Ok(values) = codec::decode_integers(&mut Cursor::new(bytes), ROWS_LIMIT) else { return };
    let mut again = Vec::new();
    codec::encode_integers(&values, &mut again);
    assert_eq!(codec::decode_integers(&mut Cursor::new(&again), ROWS_LIMIT).unwrap(), values);
}

fn rows(bytes: &[u8], width: usize) {
    let mut values = vec![0.0; width];
    if row::decode(bytes, &mut values).is_err() {
        return;
    }
    let (mut record, mut again) = (Vec::new(), vec![0.0; width]);
    row::encode(&mut record, &mut Vec::new(), &[], &values);
    row::decode(&record, &mut again).unwrap();
    assert!(again.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
}

/// A chunk of Prometheus's: histograms that are read and written again read as the same.
fn histograms(bytes: &[u8], encoding: u8, limit: usize) {
    let Ok(samples) = chunks::read(encoding, bytes) else { return };
    let again = chunks::write(&samples, limit);
    let read = again.iter().flat_map(|chunk| chunks::read(chunk.encoding, &chunk.bytes).unwrap());
    let told = |sample: chunks::Sample| (sample.0, sample.1.map(|h| (h.sum.to_bits(), h.numbers().count.to_bits())));
    assert!(read.map(told).eq(samples.into_iter().map(told)));
}

/// A file of one frame of these bytes.
fn framed(kind: frame::Kind, payload: &[u8], packed: bool) -> Vec<u8> {
    let mut file = frame::header(kind).to_vec();
    match packed {
        true => {
            let records = zstd::bulk::compress(payload, 1).unwrap();
            frame::put_frame(&mut file, &[&(payload.len() as u32).to_le_bytes(), &records[..]].concat());
        }
        false => frame::put_frame(&mut file, payload),
    }
    file
}

/// A block of one pack with this index.
fn block(pack: &[u8], index: &[u8]) -> Vec<u8> {
    let mut file = frame::header(frame::BLOCK).to_vec();
    file.extend_from_slice(pack);
    let packed = zstd::bulk::compress(index, 1).unwrap();
    let place = IndexPlace {
        offset: file.len() as u64,
        length: packed.len() as u64,
        inflated: index.len() as u64,
        crc: crc32fast::hash(&packed),
    };
    file.extend_from_slice(&packed);
    file.extend_from_slice(&encode_tail(&Span::default(), &place));
    file
}

fuzz_target!(|input: &[u8]| {
    let [what, size, rest @ ..] = input else { return };
    let count = usize::from(*size);
    if what & 64 != 0 {
        return histograms(rest, 2 + what % 2, count.max(1));
    }
    match what % 8 {
        0 => return column(rest, count),
        1 => return integers(rest),
        2 => return rows(rest, count),
        3 => return Frames::new(rest).for_each(drop),
        _ => {}
    }
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let path = folder.path().join("file");
    let (head, tail) = rest.split_at(count.min(rest.len()));
    let bytes = match what % 8 {
        4 => framed(frame::WAL, rest, true),
        5 => framed(frame::CATALOG, rest, false),
        6 => framed(frame::TOMBSTONES, rest, false),
        _ if what & 8 == 0 => block(head, tail),
        _ => [&frame::header(frame::BLOCK)[..], rest].concat(),
    };
    std::fs::write(&path, bytes).unwrap();
    match what % 8 {
        4 => drop(wal::replay(&path, &mut |_| Ok(()))),
        5 => drop(catalog::open(&path, &ColumnSets::default())),
        6 => drop(Tombstones::open(&path, &mut |_| {})),
        _ => drop(Block::open(1, &path).map(|block| (block.index(0).map(|_| ()), block.verify(0)))),
    }
});
