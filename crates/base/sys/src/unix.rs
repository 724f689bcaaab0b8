//! Unix sockets: pairs, listeners, peers, descriptors passed along.
//!
//! Sockets in the file system are named by a directory descriptor and a name in it, so that the
//! directory's path may be longer than the 108 bytes of a socket address.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::{Errno, Result};

/// Who is at the other end of a socket, as of its connect or socketpair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Process; 0 where it is in another PID namespace.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Most descriptors that [`receive_with_fds`] takes from one message.
pub const FDS_MAX: usize = 16;

/// Two connected stream sockets, close-on-exec, blocking.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    Ok(net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Listens on a new socket `name` of mode 0600 in directory `dir`; accepting from it never blocks.
pub fn listen_at(dir: BorrowedFd<'_>, name: &str, backlog: i32) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The mode of the socket's inode is the mode of the file that bind makes (less the umask): at
    // no instant can anybody else connect.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    net::bind(&socket, &address_at(dir, name)?)?;
    net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Connects to socket `name` in directory `dir`.
pub fn connect_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::connect(&socket, &address_at(dir, name)?)?;
    Ok(socket)
}

fn address_at(dir: BorrowedFd<'_>, name: &str) -> Result<net::SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    Ok(net::SocketAddrUnix::new(path)?)
}

/// The next waiting connection, non-blocking and close-on-exec; `None` when there is none.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(e) => match Errno::from(e) {
            // A connection that was closed again before it was accepted.
            Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR => Ok(None),
            e => Err(e),
        },
    }
}

/// Who is at the other end.
pub fn peer(socket: BorrowedFd<'_>) -> Result<Peer> {
    // Not by rustix: its Pid cannot be the 0 that the kernel writes for a process of another
    // PID namespace.
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `cred`, which is that large.
    let r = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut cred).cast(),
            &mut size,
        )
    };
    match r {
        0 => Ok(Peer { pid: cred.pid, uid: cred.uid, gid: cred.gid }),
        _ => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

/// Sends what the socket takes at once; `None` when it takes nothing. Never raises SIGPIPE.
pub fn try_send(socket: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> Result<Option<usize>> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    retry(|| net::sendmsg(socket, bufs, &mut Default::default(), flags))
}

/// Receives what is there; `None` when nothing is, 0 at the end.
pub fn try_receive(socket: BorrowedFd<'_>, buf: &mut [u8]) -> Result<Option<usize>> {
    retry(|| net::recv(socket, &mut *buf, RecvFlags::DONTWAIT).map(|(n, _)| n))
}

/// Sends all of `bytes`, waiting for room. Never raises SIGPIPE.
pub fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match net::send(socket, bytes, SendFlags::NOSIGNAL).map_err(Errno::from) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<usize>) -> Result<Option<usize>> {
    loop {
        match call().map_err(Errno::from) {
            Ok(n) => return Ok(Some(n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Sends `bytes` (at least one) with descriptors, all in one message.
pub fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = net::SendAncillaryBuffer::new(&mut space);
    if bytes.is_empty() || !control.push(net::SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::EINVAL);
    }
    let sent = net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { send_all(socket, &bytes[sent..]) }
}

/// Receives into `buf`, and the descriptors that came along, close-on-exec. A message with more
/// than [`FDS_MAX`] descriptors is refused with `EMSGSIZE`.
pub fn receive_with_fds(socket: BorrowedFd<'_>, buf: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = net::RecvAncillaryBuffer::new(&mut space);
    let received = net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(buf)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let net::RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received.flags.contains(net::ReturnFlags::CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((received.bytes, fds))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn listens_privately_under_a_long_path() {
        let temp = std::env::temp_dir().join(format!("hako-sys-unix-{}", std::process::id()));
        let dir = temp.join("d".repeat(120));
        std::fs::create_dir_all(&dir).unwrap();
        let dir_fd = std::fs::File::open(&dir).unwrap();

        let listener = listen_at(dir_fd.as_fd(), "s", 8).unwrap();
        assert_eq!(std::fs::metadata(dir.join("s")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(accept(listener.as_fd()).unwrap().is_none());
        let client = connect_at(dir_fd.as_fd(), "s").unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();

        let peer = peer(server.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id() as i32);
        assert_eq!(peer.uid, std::fs::metadata(&dir).unwrap().uid());

        let mut buf = [0; 8];
        assert_eq!(try_receive(server.as_fd(), &mut buf), Ok(None));
        assert_eq!(
            try_send(client.as_fd(), &[IoSlice::new(b"ab"), IoSlice::new(b"c")]),
            Ok(Some(3))
        );
        assert_eq!(try_receive(server.as_fd(), &mut buf), Ok(Some(3)));
        drop(client);
        assert_eq!(try_receive(server.as_fd(), &mut buf), Ok(Some(0)));
        assert_eq!(try_send(server.as_fd(), &[IoSlice::new(b"x")]), Err(Errno::EPIPE));
        std::fs::remove_dir_all(&temp).unwrap();
    }

    #[test]
    fn passes_descriptors() {
        let (a, b) = pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send_with_fds(a.as_fd(), b"x", &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut buf = [0; 4];
        let (n, fds) = receive_with_fds(b.as_fd(), &mut buf).unwrap();
        assert_eq!((n, fds.len()), (1, 1));
        std::io::Write::write_all(&mut std::fs::File::from(fds.into_iter().next().unwrap()), b"hi")
            .unwrap();
        assert_eq!(std::io::read_to_string(reader).unwrap(), "hi");
    }
}
