//! Network interfaces by rtnetlink(7): finding, renaming and moving them, with their addresses.
//!
//! Only opening allocates nothing; the rest is for the process that makes containers.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::{Errno, Result};

/// A socket to the routing tables of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Bits of the network.
    pub prefix: u8,
    /// 0 is global.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
    /// The other attributes that say what it is, as the kernel gave them.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    const PERMANENT: u32 = 0x80;
    /// What the kernel finds out by itself: secondary, duplicate detection failed or under way.
    const STATE: u32 = 0x01 | 0x08 | 0x40 | Self::PERMANENT;

    /// Whether a person gave it, rather than a protocol that takes it back some day.
    pub fn is_permanent(&self) -> bool {
        self.flags & Self::PERMANENT != 0
    }
}

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x01;
const ACK: u16 = 0x04;
const DUMP: u16 = 0x300;
const CREATE_NEW: u16 = 0x400 | 0x200;
const DUMP_INTERRUPTED: u16 = 0x10;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const HEADER: usize = 16;
const IFINFO: usize = 16;
const IFADDR: usize = 8;

/// Opens the socket of a [`Netlink`]: without an allocation, so that a process can do so in a new
/// namespace and give the socket away.
pub fn open() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    // Protocol 0 is NETLINK_ROUTE.
    Ok(net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?)
}

impl Netlink {
    /// Talks through this socket.
    pub fn new(fd: OwnedFd) -> Netlink {
        Netlink { fd, sequence: 0 }
    }

    /// The interface of this name; `None` where there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut body = vec![0u8; IFINFO];
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        match self.request(RTM_GETLINK, ACK, &body) {
            Ok(answers) => Ok(answers.iter().find_map(|(kind, body)| parse_link(*kind, body))),
            Err(Errno::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All addresses of an interface.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.request(RTM_GETADDR, DUMP, &[0u8; IFADDR]) {
                // Changed while it was listed.
                Err(Errno::EAGAIN) if tries < 16 => {}
                answers => {
                    let parse = |(kind, body): &(u16, Vec<u8>)| parse_address(*kind, body, index);
                    return Ok(answers?.iter().filter_map(parse).collect());
                }
            }
        }
    }

    /// Moves an interface to the network namespace `namespace`, where it gets this name.
    pub fn move_link(&mut self, index: u32, namespace: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut body = ifinfo(index, false);
        attribute(&mut body, IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        self.request(RTM_SETLINK, ACK, &body).map(|_| ())
    }

    /// Gives an interface, which is down, a name; a `%d` in it becomes the first free number.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<()> {
        let mut body = ifinfo(index, false);
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        self.request(RTM_SETLINK, ACK, &body).map(|_| ())
    }

    /// Brings an interface up.
    pub fn set_up(&mut self, index: u32) -> Result<()> {
        self.request(RTM_SETLINK, ACK, &ifinfo(index, true)).map(|_| ())
    }

    /// Gives an interface an address that another, or itself elsewhere, had.
    pub fn add_address(&mut self, index: u32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            attribute(&mut body, *kind, value);
        }
        let flags = address.flags & !Address::STATE;
        attribute(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
        self.request(RTM_NEWADDR, ACK | CREATE_NEW, &body).map(|_| ())
    }

    /// Sends a request, and returns all that is answered: type and body of each message.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
        self.sequence += 1;
        let length = (HEADER + body.len()) as u32;
        let mut message = Vec::with_capacity(length as usize);
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0u8; 4]);
        message.extend(body);
        net::send(&self.fd, &message, SendFlags::empty())?;
        let mut answers = Vec::new();
        // More than the kernel puts into one datagram (at most 32 KiB).
        let mut buffer = vec![0u8; 64 * 1024];
        let mut interrupted = false;
        loop {
            let n = match net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?.0,
            };
            let mut rest = buffer.get(..n).unwrap_or_default();
            while let Some((header, body, next)) = split_message(rest) {
                rest = next;
                if header.sequence != self.sequence {
                    continue;
                }
                interrupted |= header.flags & DUMP_INTERRUPTED != 0;
                match header.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = body.first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
                        return match code {
                            0 if interrupted => Err(Errno::EAGAIN),
                            0 => Ok(answers),
                            code => Err(Errno::from_raw(-code)),
                        };
                    }
                    kind => answers.push((kind, body.to_vec())),
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The first message, its body, and what comes after.
fn split_message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..at + 4)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..at + 2)?.first_chunk()?));
    let length = word(0)? as usize;
    let header = Header { kind: half(4)?, flags: half(6)?, sequence: word(8)? };
    let body = bytes.get(HEADER..length)?;
    Some((header, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (bytes.first_chunk::<2>(), bytes.get(2..4)) {
        let length = usize::from(u16::from_ne_bytes(*length));
        let kind = u16::from_ne_bytes([kind[0], kind[1]]);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((kind, value.to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn ifinfo(index: u32, up: bool) -> Vec<u8> {
    let flag = if up { libc::IFF_UP as u32 } else { 0 };
    let mut body = vec![0u8; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flag.to_ne_bytes());
    body.extend(flag.to_ne_bytes());
    body
}

fn parse_link(kind: u16, body: &[u8]) -> Option<Link> {
    if kind != RTM_NEWLINK {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(*body.get(at..at + 4)?.first_chunk()?));
    let attributes = attributes(body.get(IFINFO..)?);
    let (_, name) = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Some(Link {
        index: word(4)?,
        name: String::from_utf8_lossy(name).into_owned(),
        up: word(8)? & libc::IFF_UP as u32 != 0,
    })
}

fn parse_address(kind: u16, body: &[u8], index: u32) -> Option<Address> {
    let (head, rest) = (body.first_chunk::<IFADDR>()?, body.get(IFADDR..)?);
    let at = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    if kind != RTM_NEWADDR || at != index {
        return None;
    }
    let mut attributes = attributes(rest);
    let flags = attributes.iter().find(|(kind, _)| *kind == IFA_FLAGS);
    let flags = flags
        .and_then(|(_, value)| value.first_chunk())
        .map_or(u32::from(head[2]), |f| u32::from_ne_bytes(*f));
    // Not the label, which must begin with the interface's name, and that may change.
    const KEPT: [u16; 4] = [IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY];
    attributes.retain(|(kind, _)| KEPT.contains(kind));
    Some(Address { family: head[0], prefix: head[1], scope: head[3], flags, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_cut_end_the_list() {
        let mut bytes = vec![20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7];
        let (header, body, rest) = split_message(&bytes).unwrap();
        assert_eq!((header.kind, header.sequence, body, rest.len()), (2, 1, &[7u8; 4][..], 0));
        for length in 0..bytes.len() {
            assert!(split_message(&bytes[..length]).is_none(), "{length}");
        }
        bytes[0] = 3;
        assert!(split_message(&bytes).is_none());
    }

    #[test]
    fn attributes_come_back() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"eth0\0");
        attribute(&mut body, 28, &[1, 2, 3, 4]);
        assert_eq!(attributes(&body), [(3, b"eth0\0".to_vec()), (28, vec![1, 2, 3, 4])]);
        for cut in 0..body.len() {
            assert!(attributes(&body[..cut]).len() < 2, "{cut}");
        }
        assert_eq!(attributes(&[0, 0, 0, 0, 0, 0]), []);
    }

    #[test]
    fn an_interface_moves_with_its_addresses() {
        // The namespaces are the thread's alone, and go with it.
        let moved = std::thread::spawn(|| -> Result<_> {
            let new = || crate::namespace::unshare(crate::namespace::Kind::Network.flag());
            new()?;
            let mut from = Netlink::new(open()?);
            // Loopback stays where it is; only it is in every namespace.
            let lo = from.link("lo")?.ok_or(Errno::ENODEV)?;
            crate::net::loopback_up()?;
            let addresses = from.addresses(lo.index)?;
            new()?;
            let mut to = Netlink::new(open()?);
            let namespace = std::fs::File::open("/proc/thread-self/ns/net");
            let namespace = namespace.map_err(|e| Errno::of(&e))?;
            let refused =
                from.move_link(lo.index, std::os::fd::AsFd::as_fd(&namespace), "other").is_err();
            to.set_up(lo.index)?;
            let up = to.link("lo")?.ok_or(Errno::ENODEV)?.up;
            Ok((lo.name, addresses, refused, up, to.link("none")?))
        });
        match moved.join().unwrap() {
            Err(Errno::EPERM) => eprintln!("SKIP an_interface_moves_with_its_addresses: not root"),
            result => {
                let (name, addresses, refused, up, none) = result.unwrap();
                assert_eq!((name.as_str(), refused, up, none), ("lo", true, true, None));
                assert!(addresses.iter().any(|a| a.family == 2 && a.prefix == 8), "{addresses:?}");
            }
        }
    }
}
