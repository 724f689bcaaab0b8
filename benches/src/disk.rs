//! A file system of its own for one contestant, new for every round.
//!
//! What one contestant deletes costs the next one time on many file systems, and what it has not
//! written back yet is written in somebody else's round. So each keeps its store on an ext4 in a
//! file, which is unmounted (and so written) and made anew while nobody is measured.

use std::{
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use hako_tests::{command, place::Place};
use rustix::mount::{UnmountFlags, unmount};

/// Sparse: what is not used takes no room.
const SIZE_BYTES: u64 = 16 << 30;

/// The file system, mounted at a directory for as long as the bench's mount namespace lives.
pub(crate) struct Disk {
    /// Keeps the file.
    place: Rc<Place>,
    point: PathBuf,
}

impl Disk {
    /// An empty one at `point`, which is made.
    pub(crate) fn at(point: &Path) -> Result<Disk, String> {
        let disk = Disk { place: Rc::new(Place::new("disk")), point: point.to_owned() };
        std::fs::create_dir_all(point).map_err(|e| format!("{}: {e}", point.display()))?;
        let image = disk.image();
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(SIZE_BYTES))
            .map_err(|e| format!("{}: {e}", image.display()))?;
        disk.make()?;
        Ok(disk)
    }

    /// Empties it.
    pub(crate) fn renew(&self) -> Result<(), String> {
        self.clear();
        self.make()
    }

    fn image(&self) -> PathBuf {
        self.place.join("image")
    }

    /// Unmounts it, and what a contestant has mounted over or below it.
    fn clear(&self) {
        let below = || {
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
            points.rfind(|point| Path::new(point).starts_with(&self.point)).map(str::to_owned)
        };
        while let Some(point) = below() {
            // A process that has just ended may hold a mount of what is in it, for a moment.
            let mut tries = 0..100;
            while let Err(error) = unmount(point.as_str(), UnmountFlags::empty()) {
                if error != rustix::io::Errno::BUSY || tries.next().is_none() {
                    panic!("umount({point}): {error}");
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }

    fn make(&self) -> Result<(), String> {
        let run = |words: &[&str]| {
            let output = command::run(Command::new(words[0]).args(&words[1..]));
            if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
        };
        let (image, point) = (self.image(), &self.point);
        let (image, point) = (image.to_string_lossy(), point.to_string_lossy());
        // No thread of the kernel is to initialise it while somebody is measured.
        run(&["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", &image])?;
        run(&["mount", "-o", "loop,noinit_itable", &image, &point])?;
        run(&["rmdir", &format!("{point}/lost+found")])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.clear();
    }
}
