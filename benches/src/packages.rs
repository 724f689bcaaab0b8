//! Images of this machine's Debian packages: real sizes, real content, no network.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use hako_tests::{
    archive::{Entry, tar},
    binary, command,
    image::{Image, pack},
    place::Place,
};

/// What a package put on this machine, one path a line.
const LISTS: &str = "/var/lib/dpkg/info";
/// Longer names need records that our writer of archives leaves to tests.
const NAME_MAX: usize = 100;

/// An archive of installed packages.
pub(crate) struct Packages {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    /// How it is called in tables.
    pub(crate) title: String,
}

/// A docker archive of packages of some megabytes altogether, in so many layers. Packages are taken
/// in the order of their names.
pub(crate) fn archive(place: &Place, megabytes: u64, layers: usize) -> Result<Packages, String> {
    let mut lists: Vec<PathBuf> = fs::read_dir(LISTS)
        .map_err(|error| format!("{LISTS}: {error}; the images are made of Debian packages"))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "list"))
        .collect();
    lists.sort();
    let layer_bytes = (megabytes << 20) / layers as u64;
    let mut taken = Taken { bytes_max: layer_bytes + layer_bytes / 8, ..Taken::default() };
    for name in ["/bin", "/sbin", "/lib", "/lib64"] {
        taken.take(Path::new(name));
    }
    let (mut done, mut total) = (Vec::new(), 0);
    for list in &lists {
        let text = fs::read_to_string(list).map_err(|e| format!("{}: {e}", list.display()))?;
        for line in text.lines().filter(|line| *line != "/." && !line.is_empty()) {
            taken.take(Path::new(line));
        }
        if taken.bytes >= layer_bytes {
            total += taken.bytes;
            taken.bytes = 0;
            done.push(tar(&std::mem::take(&mut taken.entries)));
            if done.len() == layers {
                break;
            }
        }
    }
    if done.len() < layers {
        total += taken.bytes;
        done.push(tar(&taken.entries));
    }
    let name = format!("packages:{megabytes}");
    let count = done.len();
    let bytes = pack(&Image::new(&name, done).docker_archive());
    let path = place.write(&format!("{megabytes}.tar"), &bytes);
    // What was just written must not be flushed while the first contestant is measured.
    command::run(&mut Command::new(binary::tool("sync"))).ok();
    let files = taken.names.len();
    let title = format!("{} MB, {files} files, {count} layers", total >> 20);
    Ok(Packages { path, name, title })
}

#[derive(Default)]
struct Taken {
    names: BTreeSet<PathBuf>,
    entries: Vec<Entry>,
    /// Of the files in `entries`.
    bytes: u64,
    /// What would make it more is left out.
    bytes_max: u64,
}

impl Taken {
    /// Takes a path as it is on this machine; what is not there, or cannot be read, is left out.
    fn take(&mut self, path: &Path) {
        if let Some(real) = real(path)
            && self.names.insert(real.clone())
            && let Ok(Some(entry)) = entry(&real)
            && self.bytes + entry.data.len() as u64 <= self.bytes_max
        {
            self.bytes += entry.data.len() as u64;
            self.entries.push(entry);
        }
    }
}

/// The path with its parents' links followed: packages may still say /lib where /usr/lib is meant.
fn real(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

fn entry(path: &Path) -> io::Result<Option<Entry>> {
    let metadata = path.symlink_metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    let name = path.to_string_lossy().trim_start_matches('/').to_owned();
    Ok(if name.len() >= NAME_MAX {
        None
    } else if metadata.is_dir() {
        Some(Entry::directory(&format!("{name}/"), mode))
    } else if metadata.is_symlink() {
        Some(Entry::symlink(&name, &fs::read_link(path)?.to_string_lossy()))
            .filter(|entry| entry.link.len() < NAME_MAX)
    } else if metadata.is_file() {
        Some(Entry::file(&name, mode, fs::read(path)?))
    } else {
        None
    })
}
