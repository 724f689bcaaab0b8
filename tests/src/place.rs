//! A directory of one test: fresh, private, and removed with everything in it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::sandbox;

/// A fresh directory below the run's base directory.
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// Makes it; `name` only helps who reads listings.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = sandbox::base().join(format!("{name}-{number}"));
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("mkdir({}): {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .expect("our own directory can be opened up");
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file below it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory of the test's own can be made");
        }
        fs::write(&path, content)
            .unwrap_or_else(|error| panic!("write({}): {error}", path.display()));
        path
    }

    /// Makes a directory below it.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path)
            .unwrap_or_else(|error| panic!("mkdir({}): {error}", path.display()));
        path
    }

    /// Mount points at or below it, in this mount namespace.
    pub fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo can be read");
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| Path::new(point).starts_with(&self.path)).map(str::to_owned).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A mount left here would turn the removal into one of somebody else's files.
        let mounts = self.mounts();
        if !mounts.is_empty() {
            report(&format!("mounts are left: {mounts:?}"));
            for point in mounts.iter().rev() {
                let flags = rustix::mount::UnmountFlags::DETACH;
                if let Err(error) = rustix::mount::unmount(point.as_str(), flags) {
                    return report(&format!("umount({point}): {error}"));
                }
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            report(&format!("remove({}): {error}", self.path.display()));
        }
    }
}

/// A failure while cleaning up: fails the test, unless it fails already.
pub fn report(message: &str) {
    if std::thread::panicking() {
        eprintln!("while cleaning up: {message}");
    } else {
        panic!("{message}");
    }
}
