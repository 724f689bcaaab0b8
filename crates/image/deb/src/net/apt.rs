//! apt as the one that fetches: `apt-helper download-file`, which is what `apt-get download` does
//! with a file whose address and digest are known.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use hako_remote::{Got, Stamp};

use super::{Sink, Wanted, read_local};
use crate::{Error, Result};

/// Where Debian and its kin have it; it is not on the path.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// Fetches a file by apt, into a directory that is removed again, and gives it to the sink.
pub(super) fn get(wanted: &Wanted<'_>, sink: &mut Sink<'_>) -> Result<Option<Got>> {
    let dir = Dir::create()?;
    let target = dir.0.join("file");
    let mut command = Command::new(HELPER);
    // apt's own user could not write into our directory.
    command.args(["-q", "-o", "APT::Sandbox::User=", "download-file", wanted.url]).arg(&target);
    if let Some(digest) = wanted.digest {
        command.arg(format!("SHA256:{}", digest.hex()));
    }
    let output = command.env("LC_ALL", "C").output().map_err(|e| Error::io("exec", HELPER, e))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        if ["404 ", "File not found"].iter().any(|absent| words.contains(absent)) {
            return Ok(None);
        }
        let errors: Vec<&str> = words.lines().filter(|line| line.starts_with("E:")).collect();
        let why = if errors.is_empty() { words.trim().to_owned() } else { errors.join(" ") };
        let what = format!("apt-helper download-file {}", super::shown(wanted.url));
        return Err(Error::Apt { what, why: why.chars().take(1000).collect() });
    }
    match read_local(&target, wanted, sink)? {
        // Whether it changed, nobody asked.
        Some(_) => Ok(Some(Got::Whole(Stamp::default()))),
        None => Ok(None),
    }
}

/// A directory that goes when this does.
struct Dir(PathBuf);

impl Dir {
    fn create() -> Result<Dir> {
        use std::os::unix::fs::DirBuilderExt;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let base: PathBuf = std::env::temp_dir();
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("hako-apt-{}-{n}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Dir(path.clone())).map_err(|e| failed(&path, e)),
            }
        }
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io("mkdir", path, e)
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A file more in the directory for such files.
        fs::remove_dir_all(&self.0).ok();
    }
}
