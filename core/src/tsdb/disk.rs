//! Every change of the disk goes through here: files, names, and what makes them durable.
//!
//! Errors name the file and the cure. In tests a disk can be told to fail at its n-th change, and to lose what was not
//! synced, as a machine does that loses its power: killing a process keeps the kernel's pages and proves less.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Result, StorageError};

/// A file that is written to.
pub struct DiskFile {
    file: File,
    path: PathBuf,
}

impl DiskFile {
    /// Makes an empty file; durable is neither it nor its name.
    pub fn create(path: &Path) -> Result<DiskFile> {
        change("create", path, || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
            Ok(DiskFile { file, path: path.to_owned() })
        })
    }

    /// Opens a file that is there.
    pub fn open(path: &Path) -> Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| StorageError::file("open", path, &e))?;
        Ok(DiskFile { file, path: path.to_owned() })
    }

    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let half = || self.file.write_all_at(&bytes[..bytes.len() / 2], offset);
        change_or("write", &self.path, half, || self.file.write_all_at(bytes, offset))
    }

    pub fn set_length(&self, length: u64) -> Result<()> {
        change("resize", &self.path, || self.file.set_len(length))
    }

    pub fn sync(&self) -> Result<()> {
        change("sync", &self.path, || flush(&self.file))
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub fn rename(from: &Path, to: &Path) -> Result<()> {
    change_between("rename", from, Some(to), || std::fs::rename(from, to))
}

/// A second name of a file that never changes.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    change_between("link", from, Some(to), || std::fs::hard_link(from, to))
}

pub fn remove(path: &Path) -> Result<()> {
    change("delete", path, || std::fs::remove_file(path))
}

pub fn create_folder(path: &Path) -> Result<()> {
    change("make", path, || std::fs::create_dir_all(path))
}

/// Makes the names in a folder durable.
pub fn sync_folder(path: &Path) -> Result<()> {
    change("sync", path, || flush(&File::open(path)?))
}

/// Replaces a file as a whole, durably: there is the old one or the new one, never a half.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let next = path.with_extension("new");
    let file = DiskFile::create(&next)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    rename(&next, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Tests take the power away themselves, and sync thousands of times.
fn flush(file: &File) -> std::io::Result<()> {
    if cfg!(test) {
        return Ok(());
    }
    file.sync_data()
}

/// The files of a folder that are called NUMBER.EXTENSION, ascending.
pub fn numbered(folder: &Path, extension: &str) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| StorageError::file("list", folder, &e))? {
        let path = entry.map_err(|e| StorageError::file("list", folder, &e))?.path();
        let stem = path.file_stem().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
        if let (Some(number), true) = (stem, path.extension().is_some_and(|e| e == extension)) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

fn change<T>(action: &'static str, path: &Path, act: impl FnOnce() -> std::io::Result<T>) -> Result<T> {
    change_between(action, path, None, act)
}

fn change_between<T>(
    action: &'static str,
    path: &Path,
    to: Option<&Path>,
    act: impl FnOnce() -> std::io::Result<T>,
) -> Result<T> {
    #[cfg(test)]
    faults::before(path).map_err(|e| StorageError::file(action, path, &e))?;
    let done = act().map_err(|e| StorageError::file(action, path, &e))?;
    #[cfg(test)]
    faults::after(action, path, to);
    let _ = to;
    Ok(done)
}

/// A write that may be torn.
fn change_or(
    action: &'static str,
    path: &Path,
    torn: impl FnOnce() -> std::io::Result<()>,
    act: impl FnOnce() -> std::io::Result<()>,
) -> Result<()> {
    #[cfg(test)]
    if let Err(e) = faults::before(path) {
        let _ = torn();
        return Err(StorageError::file(action, path, &e));
    }
    #[cfg(not(test))]
    let _ = torn;
    change(action, path, act)
}

/// A disk that fails, and loses what was not synced.
#[cfg(test)]
pub mod faults {
    use std::collections::{BTreeMap, HashMap};
    use std::path::{Path, PathBuf};

    use parking_lot::Mutex;

    static DISKS: Mutex<Vec<Disk>> = Mutex::new(Vec::new());

    /// Which changes fail.
    #[derive(Clone, Copy, Debug)]
    pub enum Fails {
        Never,
        /// This one alone: a full disk for a moment.
        Once(u64),
        /// This one and all after it: the power is gone.
        From(u64),
    }

    struct Disk {
        root: PathBuf,
        fails: Fails,
        changes: u64,
        next: u64,
        /// Which file each name is, now and after the last sync of its folder.
        names: BTreeMap<PathBuf, u64>,
        durable: BTreeMap<PathBuf, u64>,
        /// What each file held when it was last synced.
        synced: HashMap<u64, Vec<u8>>,
    }

    /// From here on changes below the folder, which is empty, are counted and fail as told.
    pub fn watch(root: &Path, fails: Fails) {
        let (names, durable, synced) = Default::default();
        DISKS.lock().push(Disk { root: root.to_owned(), fails, changes: 0, next: 0, names, durable, synced });
    }

    /// How many changes there were.
    pub fn changes(root: &Path) -> u64 {
        DISKS.lock().iter().find(|d| d.root == root).map_or(0, |d| d.changes)
    }

    /// Ends the watch; writes what a machine would find after it lost its power into another folder.
    pub fn crash(root: &Path, into: &Path) {
        let mut disks = DISKS.lock();
        let at = disks.iter().position(|d| d.root == root).unwrap();
        let disk = disks.remove(at);
        drop(disks);
        for (name, file) in disk.durable {
            let path = into.join(name.strip_prefix(root).unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, disk.synced.get(&file).map_or(&[][..], Vec::as_slice)).unwrap();
        }
    }

    pub(super) fn before(path: &Path) -> std::io::Result<()> {
        let mut disks = DISKS.lock();
        let Some(disk) = disks.iter_mut().find(|d| path.starts_with(&d.root)) else { return Ok(()) };
        disk.changes += 1;
        let fails = match disk.fails {
            Fails::Never => false,
            Fails::Once(at) => disk.changes == at,
            Fails::From(at) => disk.changes >= at,
        };
        match fails {
            true => Err(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }

    pub(super) fn after(action: &str, path: &Path, to: Option<&Path>) {
        let mut disks = DISKS.lock();
        let Some(disk) = disks.iter_mut().find(|d| path.starts_with(&d.root)) else { return };
        match (action, to) {
            ("create", _) if !disk.names.contains_key(path) => {
                disk.names.insert(path.to_owned(), disk.next);
                disk.next += 1;
            }
            ("sync", _) if path.is_dir() => {
                let inside = |p: &PathBuf| p.parent() == Some(path);
                disk.durable.retain(|p, _| !inside(p));
                disk.durable.extend(disk.names.iter().filter(|(p, _)| inside(p)).map(|(p, f)| (p.clone(), *f)));
            }
            ("sync", _) => {
                let content = std::fs::read(path).unwrap();
                if let Some(file) = disk.names.get(path) {
                    disk.synced.insert(*file, content);
                }
            }
            ("rename", Some(to)) => {
                if let Some(file) = disk.names.remove(path) {
                    disk.names.insert(to.to_owned(), file);
                }
            }
            ("link", Some(to)) => {
                if let Some(file) = disk.names.get(path).copied() {
                    disk.names.insert(to.to_owned(), file);
                }
            }
            ("delete", _) => {
                disk.names.remove(path);
            }
            _ => {}
        }
    }
}
