//! Device files: made, or where the user namespace cannot make them, bound.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hako_sys::Errno;
use hako_sys::fs::{self, FileKind, OpenFlags};
use hako_sys::mount::{self as mounts, Change, attr};

use super::Init;
use crate::call::{At, Call, Did};
use crate::op::DeviceOp;

impl Init<'_> {
    pub(super) fn device(&mut self, device: &DeviceOp) -> Did {
        let in_dev = device.dir.path.as_bytes() == b"dev";
        let mut bound = None;
        let prepared = device.prepared.and_then(|slot| self.fds.prepared.get(slot));
        let made = {
            let dir = self.directory(&device.dir)?;
            let made = match device.bind {
                true => Err(Errno::EPERM),
                false => fs::mknodat(dir, &device.name, device.kind, device.mode, device.device),
            };
            match made {
                Ok(()) if device.owner != (0, 0) => {
                    let (uid, gid) = device.owner;
                    let how = fs::AtFlags::SYMLINK_NOFOLLOW;
                    fs::chownat(dir, &device.name, Some(uid), Some(gid), how).at(Call::Fchown)
                }
                Ok(()) => Ok(()),
                Err(Errno::EEXIST) => {
                    let there = fs::statat(dir, &device.name, fs::AtFlags::SYMLINK_NOFOLLOW)
                        .at(Call::Fstat)?;
                    if there.kind == device.kind
                        && (device.kind == FileKind::Fifo || there.rdev == device.device)
                    {
                        Ok(())
                    } else {
                        Err(Errno::EEXIST).at(Call::Mknod)
                    }
                }
                // A user namespace, or no CAP_MKNOD: the host's device is bound.
                Err(Errno::EPERM) => match prepared {
                    Some(tree) => device_place(dir, device).and_then(|place| {
                        mounts::move_mount(tree.as_fd(), place.as_fd()).at(Call::MoveMount)
                    }),
                    None => host_device(dir, device).map(|pair| bound = Some(pair)),
                },
                Err(e) => Err(e).at(Call::Mknod),
            }
        };
        if let Some((tree, place)) = bound {
            // It is the host's own file, and root inside may be its owner: whose mode, owner and
            // times must not change. Reading and writing a device go on on a read-only mount.
            let set = crate::spawn::DEVICE_ATTRIBUTES | attr::RDONLY;
            self.attach_with(tree.as_fd(), place.as_fd(), &Change { set, ..Change::default() })?;
        }
        if !in_dev {
            self.dev = None;
        }
        made
    }
}

/// The host's device, to be attached at its place.
fn host_device(dir: BorrowedFd<'_>, device: &DeviceOp) -> Did<(OwnedFd, OwnedFd)> {
    let source = fs::openat(fs::cwd(), &device.path, OpenFlags::PATH, 0).at(Call::Open)?;
    let stat = fs::fstat(source.as_fd()).at(Call::Fstat)?;
    if stat.kind != device.kind || stat.rdev != device.device {
        return Err(Errno::ENODEV).at(Call::Mknod);
    }
    let place = device_place(dir, device)?;
    let how = mounts::OpenTree { clone: true, ..mounts::OpenTree::default() };
    let tree = mounts::open_tree(source.as_fd(), c"", how).at(Call::OpenTree)?;
    Ok((tree, place))
}

/// A file for a device to be mounted on.
fn device_place(dir: BorrowedFd<'_>, device: &DeviceOp) -> Did<OwnedFd> {
    match fs::mknodat(dir, &device.name, FileKind::File, 0o666, (0, 0)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e).at(Call::Mknod),
    }
    let flags = OpenFlags::PATH | OpenFlags::NOFOLLOW;
    fs::openat(dir, &device.name, flags, 0).at(Call::Open)
}
