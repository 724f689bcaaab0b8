//! Overlays and images that are mounted nowhere: they live as long as a descriptor of them.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    panic,
    path::{Path, PathBuf},
    thread,
};

use hako_root::Root;
use hako_sys::{
    Errno,
    fs::{self, OpenFlags},
    loopdev::Loop,
    mount::{self, OpenTree, Propagation},
    namespace::{self, Kind},
};

use crate::{Error, Result, overlay::OPTIONS};

/// The call that fails where overlayfs takes no layers one by one.
const LOWER: &str = "fsconfig lowerdir+";
/// Options of mount(2) are one page, with a NUL.
const OPTIONS_SIZE_MAX: usize = 4096;
/// The longest value of fsconfig(2), without its NUL.
const FSCONFIG_VALUE_MAX: usize = 255;

/// An EROFS index and the files with its content.
#[derive(Debug)]
pub(crate) struct Image {
    pub index: PathBuf,
    pub devices: Vec<PathBuf>,
    /// Mounted by loop devices, even where the kernel takes files.
    pub by_loop: bool,
}

/// Loop devices of an index and its content, for kernels that take no files.
#[derive(Debug)]
pub(crate) struct Loops(Vec<Loop>);

impl Loops {
    /// Attaches them all.
    fn attach(image: &Image) -> Result<Loops> {
        let attach = |path: &PathBuf| {
            let file = File::open(path).map_err(Error::io("open", path))?;
            Loop::attach(file.as_fd(), BLOCK_BYTES, path.as_os_str().as_bytes())
                .map_err(|e| Error::io("loop device of", path)(e.into()))
        };
        std::iter::once(&image.index)
            .chain(&image.devices)
            .map(attach)
            .collect::<Result<_>>()
            .map(Loops)
    }

    /// The same image, of devices. These must be held until it is mounted.
    pub(crate) fn image(&self) -> Image {
        let mut paths = self.0.iter().map(|device| PathBuf::from(device.path()));
        let index = paths.next().unwrap_or_default();
        Image { index, devices: paths.collect(), by_loop: false }
    }
}

/// Those of an index.
const BLOCK_BYTES: u32 = 512;

/// `statfs.f_type` of EROFS.
const EROFS_MAGIC: u64 = 0xe0f5_e1e2;

impl Image {
    /// A copy of the mount that another process holds, if it is one of an image with this UUID.
    /// Whatever else is at that path, or nothing, is no error: the process may have gone.
    pub(crate) fn share(held: &Path, uuid: [u8; 16]) -> Option<OwnedFd> {
        let path = c_string(held.as_os_str().as_bytes());
        let flags = OpenFlags::PATH | OpenFlags::DIRECTORY;
        let there = fs::openat(fs::cwd(), &path, flags, 0).ok()?;
        let there = there.as_fd();
        // As the kernel folds a UUID (linux/statfs.h, uuid_to_fsid).
        let half = |n: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&uuid[n..n + 8]);
            u64::from_le_bytes(bytes)
        };
        let is_ours = fs::fstatfs(there).ok()?.magic == EROFS_MAGIC
            && fs::fsid(there).ok()? == half(0) ^ half(8);
        let clone = OpenTree { clone: true, ..OpenTree::default() };
        is_ours.then(|| mount::open_tree(there, c"", clone).ok())?
    }

    /// Mounts it, and gives its root.
    pub(crate) fn mount(&self) -> Result<OwnedFd> {
        Ok(self.mount_with_loops()?.0)
    }

    /// Mounts it, and gives its root and the loop devices that it took, if it took any.
    pub(crate) fn mount_with_loops(&self) -> Result<(OwnedFd, Option<Loops>)> {
        if !self.by_loop {
            match self.mount_files() {
                // Not a block device: before Linux 6.12, or without that part of EROFS.
                Err(Error::Image { source: Errno::ENOTBLK, .. }) => {}
                mounted => return Ok((mounted?, None)),
            }
        }
        let loops = Loops::attach(self)?;
        Ok((loops.image().mount_files()?, Some(loops)))
    }

    fn mount_files(&self) -> Result<OwnedFd> {
        let error = |call, source, fs: Option<BorrowedFd<'_>>| Error::Image {
            index: self.index.clone(),
            call,
            source,
            log: log_of(fs),
        };
        let path = |path: &Path| c_string(path.as_os_str().as_bytes());
        let fs = mount::fsopen(c"erofs").map_err(|e| error("fsopen", e, None))?;
        let fs = fs.as_fd();
        let failed = |call| move |e| error(call, e, Some(fs));
        // Values of fsconfig(2) have 255 bytes, and paths may have more: by descriptor all fit.
        let open = |path: &Path| File::open(path).map_err(Error::io("open", path));
        let mut held = Vec::new();
        let mut short = |long: &Path| -> Result<CString> {
            if long.as_os_str().len() <= FSCONFIG_VALUE_MAX {
                return Ok(path(long));
            }
            let file = open(long)?;
            let path = c_string(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes());
            held.push(file);
            Ok(path)
        };
        mount::fsconfig_string(fs, c"source", &short(&self.index)?)
            .map_err(failed("fsconfig source"))?;
        for device in &self.devices {
            mount::fsconfig_string(fs, c"device", &short(device)?)
                .map_err(failed("fsconfig device"))?;
        }
        mount::fsconfig_flag(fs, c"ro").map_err(failed("fsconfig ro"))?;
        mount::fsconfig_create(fs).map_err(failed("fsconfig create"))?;
        mount::fsmount(fs, mount::attr::RDONLY).map_err(failed("fsmount"))
    }
}

/// Directories to join, top first, and where writes go.
pub(crate) struct Stack<'a> {
    pub lower: &'a [PathBuf],
    /// Joined below all directories.
    pub image: Option<&'a Image>,
    /// Upper and work directory; read-only without.
    pub writable: Option<(&'a Path, &'a Path)>,
    pub userxattr: bool,
}

impl Stack<'_> {
    /// Mounts the overlay, and gives its root.
    pub(crate) fn mount(&self, name: &Path) -> Result<Root> {
        let fd = match self.mount_by_parameters() {
            // Before Linux 6.7 overlayfs has no `lowerdir+`; before 6.5 it does not even say so.
            // Before 6.15 it takes no layer that is mounted nowhere.
            Err(Error::Mount { call, source: Errno::EINVAL, log, .. })
                if call == LOWER || log.is_empty() || self.image.is_some() =>
            {
                self.mount_by_page()?
            }
            mounted => mounted?,
        };
        Ok(Root::from_fd(fd, name))
    }

    fn mount_by_parameters(&self) -> Result<OwnedFd> {
        let context = Context { layers: self.lower.len() };
        let fs = mount::fsopen(c"overlay").map_err(|e| context.error("fsopen", e, None))?;
        let fs = fs.as_fd();
        for dir in self.lower {
            mount::fsconfig_string(fs, c"lowerdir+", &c_string(dir.as_os_str().as_bytes()))
                .map_err(|e| context.error(LOWER, e, Some(fs)))?;
        }
        let image = self.image.map(Image::mount).transpose()?;
        if let Some(image) = &image {
            let path = c_string(format!("/proc/self/fd/{}", image.as_raw_fd()).as_bytes());
            mount::fsconfig_string(fs, c"lowerdir+", &path)
                .map_err(|e| context.error(LOWER, e, Some(fs)))?;
        }
        if let Some((upper, work)) = self.writable {
            context.set(fs, c"upperdir", &c_string(upper.as_os_str().as_bytes()))?;
            context.set(fs, c"workdir", &c_string(work.as_os_str().as_bytes()))?;
            // Without this, unmounting would flush the whole file system; who unpacks does that
            // once, at the end.
            mount::fsconfig_flag(fs, c"volatile")
                .map_err(|e| context.error("fsconfig volatile", e, Some(fs)))?;
        }
        for (key, value) in OPTIONS {
            context.set(fs, &c_string(key.as_bytes()), &c_string(value.as_bytes()))?;
        }
        if self.userxattr {
            mount::fsconfig_flag(fs, c"userxattr")
                .map_err(|e| context.error("fsconfig userxattr", e, Some(fs)))?;
        }
        mount::fsconfig_create(fs).map_err(|e| context.error("fsconfig create", e, Some(fs)))?;
        let attributes = if self.writable.is_some() { 0 } else { mount::attr::RDONLY };
        mount::fsmount(fs, attributes).map_err(|e| context.error("fsmount", e, Some(fs)))
    }

    /// With mount(2), whose options are one page for all layers (fsconfig's are 256 bytes each).
    ///
    /// That call attaches what it mounts. A thread does it in a mount namespace of its own, which
    /// ends with it: nobody else sees the mount, and no crash leaves it.
    fn mount_by_page(&self) -> Result<OwnedFd> {
        let context = Context { layers: self.lower.len() };
        let mounted =
            thread::scope(|scope| scope.spawn(|| self.mount_in_own_namespace(&context)).join());
        mounted.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    fn mount_in_own_namespace(&self, context: &Context) -> Result<OwnedFd> {
        let at = |call| move |e| context.error(call, e, None);
        namespace::unshare(Kind::Mount.flag()).map_err(at("unshare"))?;
        mount::set_propagation(c"/", Propagation::Private, true).map_err(at("mount private"))?;

        // By descriptors, which are short and need no escapes. They are opened here: overlayfs
        // takes no directory of another mount namespace.
        let open = |dir: &Path| File::open(dir).map_err(Error::io("open", dir));
        let path = |dir: &File| format!("/proc/self/fd/{}", dir.as_raw_fd());
        let mut lower = self.lower.iter().map(|dir| open(dir)).collect::<Result<Vec<File>>>()?;
        if let Some(image) = self.image {
            // Over a directory that is held already, and that only this namespace sees it on.
            let mounted = image.mount()?;
            mount::move_mount(mounted.as_fd(), lower[0].as_fd()).map_err(at("move_mount"))?;
            lower.push(File::from(mounted));
        }
        let mut options = "lowerdir=".to_owned();
        options.push_str(&lower.iter().map(path).collect::<Vec<_>>().join(":"));
        if let Some((upper, work)) = self.writable {
            // Not by descriptor: overlayfs wants to see that one is not inside the other.
            let escape =
                |dir: &Path| dir.display().to_string().replace('\\', r"\\").replace(',', r"\,");
            let (upper, work) = (escape(upper), escape(work));
            options.push_str(&format!(",upperdir={upper},workdir={work},volatile"));
        }
        for (key, value) in OPTIONS {
            options.push_str(&format!(",{key}={value}"));
        }
        if self.userxattr {
            options.push_str(",userxattr");
        }
        if options.len() >= OPTIONS_SIZE_MAX {
            return Err(context.error("mount overlay", Errno::E2BIG, None));
        }
        let options = c_string(options.as_bytes());
        // Anywhere will do; this directory exists.
        let target = c_string(self.lower[0].as_os_str().as_bytes());
        mount::mount(Some(c"overlay"), &target, Some(c"overlay"), 0, Some(&options))
            .map_err(at("mount overlay"))?;
        let clone = OpenTree { clone: true, ..OpenTree::default() };
        mount::open_tree(hako_sys::fs::cwd(), &target, clone).map_err(at("open_tree"))
    }
}

struct Context {
    layers: usize,
}

impl Context {
    fn set(&self, fs: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
        mount::fsconfig_string(fs, key, value).map_err(|e| self.error("fsconfig", e, Some(fs)))
    }

    fn error(&self, call: &'static str, source: Errno, fs: Option<BorrowedFd<'_>>) -> Error {
        Error::Mount { layers: self.layers, call, source, log: log_of(fs) }
    }
}

/// What the kernel wrote beside the number.
fn log_of(fs: Option<BorrowedFd<'_>>) -> String {
    let mut buffer = [0; 512];
    let log = fs.map_or(&[][..], |fs| mount::fs_log(fs, &mut buffer));
    String::from_utf8_lossy(log).trim_end().to_owned()
}

/// Paths of the store hold no NUL: they came from the kernel or from hexadecimal digits.
fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kernel takes the second way; new ones take the first.
    #[test]
    fn both_ways_mount_the_same() {
        if hako_sys::cred::effective_uid() != 0 {
            eprintln!("SKIP both_ways_mount_the_same: needs root");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let lower = [dir("top, of: two"), dir("bottom")];
        std::fs::write(lower[0].join("a"), "top").unwrap();
        std::fs::write(lower[1].join("a"), "bottom").unwrap();
        let (upper, work) = (dir("upper, too"), dir("work"));
        for writable in [None, Some((upper.as_path(), work.as_path()))] {
            let stack = Stack { lower: &lower, image: None, writable, userxattr: false };
            let ways = [Stack::mount_by_parameters, Stack::mount_by_page];
            for (n, way) in ways.into_iter().enumerate() {
                let fd = match way(&stack) {
                    Err(e) if n == 0 => {
                        eprintln!("SKIP both_ways_mount_the_same: {e}");
                        continue;
                    }
                    fd => fd.unwrap(),
                };
                let root = Root::from_fd(fd, "overlay");
                assert_eq!(root.read(Path::new("a"), 10).unwrap(), b"top");
                let made = root.as_dir().mkdir(&c_string(format!("d{n}").as_bytes()), 0o700);
                assert_eq!(made.is_ok(), writable.is_some());
                drop(root);
                // A volatile overlay leaves a mark that refuses the next one.
                std::fs::remove_dir_all(&work).unwrap();
                std::fs::create_dir(&work).unwrap();
            }
        }
        assert_eq!(std::fs::read_dir(&upper).unwrap().count(), 2);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(base.path().to_str().unwrap()));
    }
}
