//! Mounting, by descriptor: a detached mount is attached to a place that was opened before.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hako_sys::Errno;
use hako_sys::fs::{self, FileKind, OpenFlags, Resolve};
use hako_sys::mount::{self, Change, OpenTree, Propagation, attr};

use super::walk::{self, Make};
use super::{Init, Text};
use crate::call::{At, Call, Did, Failure};
use crate::op::{CgroupDir, MountOp, NewFs, OPTIONS_SIZE, Param, Place, Source, Target};

/// Most layers of an overlay on kernels that take all of them in one page.
const LAYERS_MAX: usize = 256;

const DIRECTORY: OpenFlags = OpenFlags::PATH.union(OpenFlags::DIRECTORY);
const CLONE: OpenTree = OpenTree { clone: true, recursive: false, no_follow: false };
const CLONE_ALL: OpenTree = OpenTree { clone: true, recursive: true, no_follow: false };

impl Init<'_> {
    pub(super) fn root(&self) -> Did<BorrowedFd<'_>> {
        self.rootfs.as_ref().map(AsFd::as_fd).ok_or(Errno::EBADF).at(Call::Openat2)
    }

    /// The root filesystem, bound to itself: pivot_root wants a mount.
    pub(super) fn bind_root(&mut self, path: &CStr) -> Did {
        let tree = mount::open_tree(fs::cwd(), path, CLONE_ALL).at(Call::OpenTree)?;
        let target = fs::openat(fs::cwd(), path, DIRECTORY, 0).at(Call::Open)?;
        mount::move_mount(tree.as_fd(), target.as_fd()).at(Call::MoveMount)?;
        self.rootfs = Some(tree);
        Ok(())
    }

    /// The root filesystem from mounts of the caller (an overlay).
    pub(super) fn mount_root(&mut self, path: &CStr, op: &MountOp) -> Did {
        let target = fs::openat(fs::cwd(), path, DIRECTORY, 0).at(Call::Open)?;
        let tree = match &op.source {
            Source::New(new) => self.new_mount(new, op.set, (target.as_fd(), true))?,
            Source::Bind { path, recursive, .. } => {
                let how = if *recursive { CLONE_ALL } else { CLONE };
                Some(mount::open_tree(fs::cwd(), path, how).at(Call::OpenTree)?)
            }
            Source::Remount => return Err(Errno::EINVAL).at(Call::Mount),
        };
        let tree = match tree {
            Some(tree) => {
                mount::move_mount(tree.as_fd(), target.as_fd()).at(Call::MoveMount)?;
                tree
            }
            // mount(2) attached it already; opened anew, the path leads to it.
            None => fs::openat(fs::cwd(), path, DIRECTORY, 0).at(Call::Open)?,
        };
        if matches!(op.source, Source::Bind { .. }) {
            self.change(op, tree.as_fd())?;
        }
        self.rootfs = Some(tree);
        Ok(())
    }

    /// Unmounts what is at a place. The container can have moved what leads there, so no link is
    /// followed on the way: what is mounted elsewhere (to mask it, say) stays.
    pub(super) fn unmount(&mut self, place: &Place) -> Did {
        let resolve = Resolve::IN_ROOT | Resolve::NO_SYMLINKS;
        let dir = fs::openat2(self.root()?, &place.dir.path, DIRECTORY, 0, resolve);
        let dir = dir.at(Call::Openat2)?;
        hako_sys::process::fchdir(dir.as_fd()).at(Call::Chdir)?;
        mount::detach_no_follow(&place.name).at(Call::Umount)
    }

    pub(super) fn mount(&mut self, op: &MountOp) -> Did {
        match &op.source {
            Source::Bind { .. } => self.bind(op),
            Source::New(new) => self.mount_new(op, new),
            Source::Remount => {
                let target = walk::open(self.root()?, &op.target).at(Call::Openat2)?;
                self.change(op, target.as_fd())
            }
        }
    }

    fn bind(&mut self, op: &MountOp) -> Did {
        let Source::Bind { path, recursive, no_follow, prepared, copy_symlink } = &op.source else {
            return Err(Errno::EINVAL).at(Call::Mount);
        };
        let opened;
        let tree = match prepared.and_then(|slot| self.fds.prepared.get(slot)) {
            Some(tree) => tree.as_fd(),
            None => {
                let how = OpenTree { clone: true, recursive: *recursive, no_follow: *no_follow };
                opened = mount::open_tree(fs::cwd(), path, how).at(Call::OpenTree)?;
                opened.as_fd()
            }
        };
        let kind = fs::fstat(tree).at(Call::Fstat)?.kind;
        if let (FileKind::Symlink, Some(link)) = (kind, copy_symlink) {
            return self.copy_link(path, &link.dir, &link.name);
        }
        let make = if kind == FileKind::Directory { Make::Directory } else { Make::File };
        let target = walk::ensure(self.root()?, &op.target, make)?;
        if prepared.is_some() {
            // Copied from the parent's namespace, where it may be shared: what happens in here
            // must not go out.
            let slave = Change {
                propagation: Some(Propagation::Slave),
                recursive: true,
                ..Change::default()
            };
            // Without a fall-back: the older call wants a path, and /proc here is the container's.
            mount::set_attr(tree, &slave).at(Call::MountSetattr)?;
        }
        if op.target.path.as_bytes() == b"proc" {
            let magic = fs::fstatfs(tree).at(Call::Fstatfs)?.magic;
            if magic != mount::PROC_MAGIC {
                return Err(Errno::EINVAL).at(Call::NotProc);
            }
        }
        // Attributes while it is still detached, where the kernel can.
        if self.has_set_attr {
            self.change(op, tree)?;
        }
        mount::move_mount(tree, target.as_fd()).at(Call::MoveMount)?;
        if !self.has_set_attr {
            self.change(op, tree)?;
        }
        self.became_root(op, tree)
    }

    fn mount_new(&mut self, op: &MountOp, new: &NewFs) -> Did {
        let (target, was_there) = walk::find_or_make(self.root()?, &op.target, Make::Directory)?;
        let fill_first = op.copy_up && op.set & attr::RDONLY != 0;
        let set = if fill_first { op.set & !attr::RDONLY } else { op.set };
        let Some(tree) = self.new_mount(new, set, (target.as_fd(), was_there))? else {
            // mount(2) attached it already.
            let tree = walk::open(self.root()?, &op.target).at(Call::Openat2)?;
            self.propagate(op, tree.as_fd())?;
            return self.became_root(op, tree.as_fd());
        };
        if op.copy_up && was_there {
            self.copy_up(&op.target, tree.as_fd())?;
        }
        if let Some(label) = &new.label {
            // Through an ordinary descriptor: fsmount's is O_PATH.
            let flags = OpenFlags::RDONLY.union(OpenFlags::DIRECTORY);
            let root = fs::openat(tree.as_fd(), c".", flags, 0).at(Call::Open)?;
            hako_sys::xattr::fset(root.as_fd(), c"security.selinux", label.to_bytes_with_nul())
                .at(Call::Setxattr)?;
        }
        mount::move_mount(tree.as_fd(), target.as_fd()).at(Call::MoveMount)?;
        if fill_first {
            self.set_attr(tree.as_fd(), &Change { set: attr::RDONLY, ..Change::default() })?;
        }
        self.propagate(op, tree.as_fd())?;
        self.change_all(op, tree.as_fd())?;
        self.became_root(op, tree.as_fd())
    }

    /// A mount over the root itself is from now on the root.
    fn became_root(&mut self, op: &MountOp, tree: BorrowedFd<'_>) -> Did {
        if op.target.is_root() {
            self.rootfs = Some(hako_sys::process::dup_above(tree, 3).at(Call::Dup)?);
        }
        Ok(())
    }

    fn change(&mut self, op: &MountOp, tree: BorrowedFd<'_>) -> Did {
        self.change_all(op, tree)?;
        if op.set | op.clear != 0 {
            self.set_attr(tree, &Change { set: op.set, clear: op.clear, ..Change::default() })?;
        }
        self.propagate(op, tree)
    }

    fn change_all(&self, op: &MountOp, tree: BorrowedFd<'_>) -> Did {
        if op.set_all | op.clear_all == 0 {
            return Ok(());
        }
        // Recursive attributes have no older call to fall back on (Linux 5.12).
        let change =
            Change { set: op.set_all, clear: op.clear_all, recursive: true, ..Change::default() };
        mount::set_attr(tree, &change).at(Call::MountSetattr)
    }

    fn propagate(&self, op: &MountOp, tree: BorrowedFd<'_>) -> Did {
        for (propagation, recursive) in &op.propagation {
            self.set_propagation(tree, *propagation, *recursive)?;
        }
        Ok(())
    }

    fn set_propagation(
        &self,
        tree: BorrowedFd<'_>,
        propagation: Propagation,
        recursive: bool,
    ) -> Did {
        if !self.has_set_attr {
            // This one takes detached mounts, too.
            let path = Text::fd_path(tree);
            return mount::set_propagation(path.as_c_str(), propagation, recursive).at(Call::Mount);
        }
        let change = Change { propagation: Some(propagation), recursive, ..Change::default() };
        mount::set_attr(tree, &change).at(Call::MountSetattr)
    }

    /// mount_setattr(2), or a remount of the attached mount before Linux 5.12.
    pub(super) fn set_attr(&mut self, tree: BorrowedFd<'_>, change: &Change<'_>) -> Did {
        if self.has_set_attr {
            return mount::set_attr(tree, change).at(Call::MountSetattr);
        }
        // A remount replaces all flags: those in force stay, but for the changed ones.
        let before = mount::attributes_of(fs::mount_flags(tree).at(Call::Fstatfs)?);
        let flags = mount::remount_flags(before & !change.clear | change.set);
        mount::mount(None, Text::fd_path(tree).as_c_str(), None, flags, None).at(Call::Mount)
    }

    /// A new, detached mount; `None` where only mount(2) could make it, which attached it at once.
    /// The target comes with whether it was there before.
    fn new_mount(
        &mut self,
        new: &NewFs,
        set: u64,
        target: (BorrowedFd<'_>, bool),
    ) -> Did<Option<OwnedFd>> {
        match &new.base {
            // The kernel takes it as a path, and `.` is one however mount(2) or fsconfig(2) gets it.
            _ if new.lower_is_target => hako_sys::process::fchdir(target.0).at(Call::Chdir)?,
            Some(base) => hako_sys::process::chdir(base).at(Call::Chdir)?,
            None => return self.new_mount_here(new, set, target),
        }
        let made = self.new_mount_here(new, set, target)?;
        hako_sys::process::chdir(c"/").at(Call::Chdir)?;
        Ok(made)
    }

    fn new_mount_here(
        &mut self,
        new: &NewFs,
        set: u64,
        (target, was_there): (BorrowedFd<'_>, bool),
    ) -> Did<Option<OwnedFd>> {
        if new.by_mount {
            return self.mount_legacy(new, set, target).map(|()| None);
        }
        let context = mount::fsopen(&new.kind).at(Call::Fsopen)?;
        match self.configure(new, context.as_fd(), was_there.then_some(target)) {
            // Kernels before 6.8 know no `lowerdir+`.
            Err(Failure { call: Call::Fsconfig, errno: Errno::EINVAL })
                if !new.lower.is_empty() =>
            {
                return self.mount_legacy(new, set, target).map(|()| None);
            }
            Err(failure) => {
                self.note_log(context.as_fd());
                return Err(failure);
            }
            Ok(()) => {}
        }
        match mount::fsmount(context.as_fd(), set).at(Call::Fsmount) {
            Ok(tree) => Ok(Some(tree)),
            Err(failure) => {
                self.note_log(context.as_fd());
                Err(failure)
            }
        }
    }

    fn configure(
        &self,
        new: &NewFs,
        context: BorrowedFd<'_>,
        was_there: Option<BorrowedFd<'_>>,
    ) -> Did {
        mount::fsconfig_string(context, c"source", &new.source).at(Call::Fsconfig)?;
        for param in &new.params {
            match param {
                Param::Flag(key) => mount::fsconfig_flag(context, key),
                Param::String(key, value) => mount::fsconfig_string(context, key, value),
            }
            .at(Call::Fsconfig)?;
        }
        for lower in &new.lower {
            mount::fsconfig_string(context, c"lowerdir+", lower).at(Call::Fsconfig)?;
        }
        // As runc: where nothing was, it is anybody's to write to, as the kernel makes it.
        if let (true, Some(target)) = (new.mode_of_target, was_there) {
            let mode = Text::octal(fs::fstat(target).at(Call::Fstat)?.mode);
            mount::fsconfig_string(context, c"mode", mode.as_c_str()).at(Call::Fsconfig)?;
        }
        mount::fsconfig_create(context).at(Call::FsconfigCreate)
    }

    fn mount_legacy(&self, new: &NewFs, set: u64, target: BorrowedFd<'_>) -> Did {
        let flags = mount::remount_flags(set) & !mount::REMOUNT_BIND;
        let path = Text::fd_path(target);
        let mount = |options: &CStr| {
            mount::mount(Some(&new.source), path.as_c_str(), Some(&new.kind), flags, Some(options))
                .at(Call::Mount)
        };
        if !new.by_descriptor {
            return mount(&new.legacy);
        }
        // Their paths do not fit into the page that mount(2) takes; those of descriptors do.
        let mut held = [const { None }; LAYERS_MAX];
        let mut options = Text::<OPTIONS_SIZE>::new();
        options.push(new.legacy.as_bytes());
        for (n, lower) in new.lower.iter().enumerate() {
            let dir = fs::openat(fs::cwd(), lower, DIRECTORY, 0).at(Call::Open)?;
            options.push(if n == 0 { b",lowerdir=" } else { b":" });
            options.push(Text::fd_path(dir.as_fd()).as_bytes());
            let Some(slot) = held.get_mut(n) else { return Err(Errno::E2BIG).at(Call::Mount) };
            *slot = Some(dir);
        }
        if options.is_full() {
            return Err(Errno::E2BIG).at(Call::Mount);
        }
        mount(options.as_c_str())
    }

    /// Keeps the file system's own words for the error.
    fn note_log(&mut self, context: BorrowedFd<'_>) {
        let mut buffer = [0u8; 200];
        // "e overlay: …": a level, then the words.
        let log = mount::fs_log(context, &mut buffer);
        self.note.set(log.get(2..).unwrap_or_default());
    }

    /// The link at `source` as a link in the container, as crun does: what is there already must be
    /// the same link.
    fn copy_link(&mut self, source: &CStr, dir: &Target, name: &CStr) -> Did {
        let mut buffer = [0u8; 4096];
        let content = fs::readlink_into(fs::cwd(), source, &mut buffer).at(Call::Readlink)?;
        let dir = walk::ensure(self.root()?, dir, Make::Directory)?;
        match fs::symlinkat(content, dir.as_fd(), name) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) => {
                let mut buffer = [0u8; 4096];
                match fs::readlink_into(dir.as_fd(), name, &mut buffer) {
                    Ok(there) if there == content => Ok(()),
                    _ => Err(Errno::EEXIST).at(Call::Symlink),
                }
            }
            Err(e) => Err(e).at(Call::Symlink),
        }
    }

    /// The container's view on cgroup v1: its own directory of each hierarchy.
    pub(super) fn mount_cgroups(&mut self, tmpfs: &MountOp, set: u64, dirs: &[CgroupDir]) -> Did {
        let target = walk::ensure(self.root()?, &tmpfs.target, Make::Directory)?;
        let Source::New(new) = &tmpfs.source else {
            return Err(Errno::EINVAL).at(Call::Mount);
        };
        let Some(tree) = self.new_mount(new, tmpfs.set & !attr::RDONLY, (target.as_fd(), true))?
        else {
            return Err(Errno::EINVAL).at(Call::Mount);
        };
        mount::move_mount(tree.as_fd(), target.as_fd()).at(Call::MoveMount)?;
        for dir in dirs {
            fs::mkdirat(tree.as_fd(), &dir.name, 0o755).at(Call::Mkdir)?;
            let place = fs::openat(tree.as_fd(), &dir.name, DIRECTORY, 0).at(Call::Open)?;
            let hierarchy = mount::open_tree(fs::cwd(), &dir.source, CLONE).at(Call::OpenTree)?;
            self.attach_with(
                hierarchy.as_fd(),
                place.as_fd(),
                &Change { set, ..Change::default() },
            )?;
            for link in &dir.links {
                fs::symlinkat(&dir.name, tree.as_fd(), link).at(Call::Symlink)?;
            }
        }
        if tmpfs.set & attr::RDONLY != 0 {
            self.set_attr(tree.as_fd(), &Change { set: attr::RDONLY, ..Change::default() })?;
        }
        Ok(())
    }

    pub(super) fn attach_with(
        &mut self,
        tree: BorrowedFd<'_>,
        place: BorrowedFd<'_>,
        change: &Change<'_>,
    ) -> Did {
        if self.has_set_attr {
            mount::set_attr(tree, change).at(Call::MountSetattr)?;
        }
        mount::move_mount(tree, place).at(Call::MoveMount)?;
        if self.has_set_attr { Ok(()) } else { self.set_attr(tree, change) }
    }

    pub(super) fn readonly_path(&mut self, target: &Target) -> Did {
        let Some(place) = self.existing(target)? else { return Ok(()) };
        let tree = mount::open_tree(place.as_fd(), c"", CLONE_ALL).at(Call::OpenTree)?;
        let recursive = self.has_set_attr;
        let change = Change { set: attr::RDONLY, recursive, ..Change::default() };
        self.attach_with(tree.as_fd(), place.as_fd(), &change)
    }

    /// Covers a directory by an empty one, and anything else by /dev/null.
    pub(super) fn masked_path(&mut self, target: &Target) -> Did {
        let Some(place) = self.existing(target)? else { return Ok(()) };
        if fs::fstat(place.as_fd()).at(Call::Fstat)?.kind != FileKind::Directory {
            let null = match &self.null {
                Some(null) => null,
                None => self.null.insert(open_null()?),
            };
            let tree = mount::open_tree(null.as_fd(), c"", CLONE).at(Call::OpenTree)?;
            // It is the host's own file, and root inside may be its owner: whose mode, owner and
            // times must not change. Reading and writing a device go on on a read-only mount.
            let change = Change { set: attr::RDONLY, ..Change::default() };
            return self.attach_with(tree.as_fd(), place.as_fd(), &change);
        }
        // One empty file system serves all directories.
        if let Some(empty) = &self.empty {
            let tree = mount::open_tree(empty.as_fd(), c"", CLONE).at(Call::OpenTree)?;
            return mount::move_mount(tree.as_fd(), place.as_fd()).at(Call::MoveMount);
        }
        let context = mount::fsopen(c"tmpfs").at(Call::Fsopen)?;
        mount::fsconfig_flag(context.as_fd(), c"ro").at(Call::Fsconfig)?;
        mount::fsconfig_string(context.as_fd(), c"nr_inodes", c"2").at(Call::Fsconfig)?;
        mount::fsconfig_create(context.as_fd()).at(Call::FsconfigCreate)?;
        let safe = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let tree = mount::fsmount(context.as_fd(), safe).at(Call::Fsmount)?;
        mount::move_mount(tree.as_fd(), place.as_fd()).at(Call::MoveMount)?;
        self.empty = Some(tree);
        Ok(())
    }

    fn existing(&self, target: &Target) -> Did<Option<OwnedFd>> {
        match walk::open(self.root()?, target) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(e) => Err(e).at(Call::Openat2),
        }
    }

    pub(super) fn pivot(&mut self) -> Did {
        let old = fs::openat(fs::cwd(), c"/", DIRECTORY, 0).at(Call::Open)?;
        hako_sys::process::fchdir(self.root()?).at(Call::Chdir)?;
        // The old root is then on top of the new one, at the same place (pivot_root(2), NOTES).
        mount::pivot_root(c".", c".").at(Call::PivotRoot)?;
        hako_sys::process::fchdir(old.as_fd()).at(Call::Chdir)?;
        // Or unmounting would be told to the host, where the root was left shared.
        mount::set_propagation(c".", Propagation::Slave, true).at(Call::Mount)?;
        mount::detach(c".").at(Call::Umount)?;
        hako_sys::process::chdir(c"/").at(Call::Chdir)
    }

    pub(super) fn move_root(&mut self) -> Did {
        // Or the move would be told to the host, where the root was left shared.
        mount::set_propagation(c"/", Propagation::Private, false).at(Call::Mount)?;
        for path in &self.fds.covered {
            self.cover(path)?;
        }
        hako_sys::process::fchdir(self.root()?).at(Call::Chdir)?;
        mount::move_to(c".", c"/").at(Call::Mount)?;
        hako_sys::process::chroot(c".").at(Call::Chroot)?;
        hako_sys::process::chdir(c"/").at(Call::Chdir)
    }

    /// Takes a mount of the old root away; where it is locked in place, an empty one goes over it.
    fn cover(&self, path: &CStr) -> Did {
        match mount::set_propagation(path, Propagation::Private, true) {
            // It went away with one that it was beneath, or was never within sight.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
            other => other.at(Call::Mount)?,
        }
        match mount::detach_no_follow(path) {
            Err(Errno::EINVAL | Errno::EPERM) => {
                let flags = mount::remount_flags(attr::RDONLY) & !mount::REMOUNT_BIND;
                mount::mount(Some(c"none"), path, Some(c"tmpfs"), flags, None).at(Call::Mount)
            }
            other => other.at(Call::Umount),
        }
    }

    /// The mount above the root filesystem must not be shared, or pivot_root refuses.
    pub(super) fn private_parent(&self, paths: &[CString]) -> Did {
        for path in paths {
            match mount::set_propagation(path, Propagation::Private, false) {
                // No mount point: the mount is further up.
                Err(Errno::EINVAL) => {}
                other => return other.at(Call::Mount),
            }
        }
        Ok(())
    }
}

/// The host's null device, checked to be it (CVE-2025-31133).
fn open_null() -> Did<OwnedFd> {
    let null = fs::openat(fs::cwd(), c"/dev/null", OpenFlags::PATH, 0).at(Call::Open)?;
    let stat = fs::fstat(null.as_fd()).at(Call::Fstat)?;
    if stat.kind != FileKind::Char || stat.rdev != (1, 3) {
        return Err(Errno::ENODEV).at(Call::NotNull);
    }
    Ok(null)
}
