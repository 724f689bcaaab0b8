//! `linux.netDevices`: network devices move from the caller's network namespace into the
//! container's, with their permanent addresses, and are up there
//! (config-linux.md, "Network Devices").

use std::os::fd::{AsFd, OwnedFd};

use hako_sys::Errno;
use hako_sys::fs::{self, OpenFlags};
use hako_sys::netlink::{self, Address, Netlink};

use crate::container::open_path;
use crate::plan::NetDevice;
use crate::{Error, Result};

/// Scope of addresses that are valid everywhere.
const GLOBAL: u8 = 0;

/// Moves one device. `socket` was opened by `pid`, which is in the container's network namespace.
pub(crate) fn move_device(device: &NetDevice, pid: i32, socket: OwnedFd) -> Result<()> {
    let fail = |call: &'static str| {
        move |errno| Error::Step {
            step: 0,
            call,
            object: format!("network device {}", device.name),
            field: device.field.clone(),
            errno,
            note: String::new(),
        }
    };
    let refuse = |reason: String| Err(Error::config(&device.field, reason));
    let namespace = |pid: &str| {
        open_path(std::path::Path::new(&format!("/proc/{pid}/ns/net")), OpenFlags::RDONLY)
    };
    let (inside, own) = (namespace(&pid.to_string())?, namespace("self")?);
    let identity = |fd: &OwnedFd| fs::fstat(fd.as_fd()).map(|s| (s.dev, s.ino));
    if identity(&inside).map_err(fail("fstat"))? == identity(&own).map_err(fail("fstat"))? {
        return refuse("the container's network namespace is the caller's".to_owned());
    }
    let mut here = Netlink::new(netlink::open().map_err(fail("socket"))?);
    let mut there = Netlink::new(socket);

    let Some(link) = here.link(&device.name).map_err(fail("RTM_GETLINK"))? else {
        return refuse(format!("there is no network device {}", device.name));
    };
    let template = device.inside.contains('%');
    if !template && there.link(&device.inside).map_err(fail("RTM_GETLINK"))?.is_some() {
        return refuse(format!("the container has a network device {} already", device.inside));
    }
    // Addresses that a protocol gave are its own to give again, and go with the namespace.
    let kept = |a: &Address| a.is_permanent() && a.scope == GLOBAL;
    let mut addresses = here.addresses(link.index).map_err(fail("RTM_GETADDR"))?;
    addresses.retain(kept);

    // Under a name that is nobody's, so that it can be found again, where the kernel is to number it.
    let passing = if template { format!("hako{pid}") } else { device.inside.clone() };
    here.move_link(link.index, inside.as_fd(), &passing).map_err(|errno| match errno {
        Errno::EINVAL => Error::config(&device.field, "it is of a kind that cannot be moved"),
        errno => fail("RTM_SETLINK")(errno),
    })?;
    let moved = there.link(&passing).map_err(fail("RTM_GETLINK"))?;
    let index = moved.ok_or(Errno::ENODEV).map_err(fail("RTM_GETLINK"))?.index;
    if template {
        there.rename(index, &device.inside).map_err(fail("RTM_SETLINK"))?;
    }
    for address in &addresses {
        there.add_address(index, address).map_err(fail("RTM_NEWADDR"))?;
    }
    there.set_up(index).map_err(fail("RTM_SETLINK"))
}
