//! Network interfaces. Nothing here allocates: a new network namespace is set up between `clone3`
//! and `execve`.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::Result;
use crate::process::check;

/// Brings the loopback interface of the caller's network namespace up; the kernel gives it its
/// addresses then.
pub fn loopback_up() -> Result<()> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(fd.into())?;
    // SAFETY: the kernel just returned this descriptor to us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zeroes are a valid ifreq: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until after the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) }.into())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespaces_loopback_comes_up() {
        // The namespace is the thread's alone, and goes with it.
        let result = std::thread::spawn(|| {
            crate::namespace::unshare(crate::namespace::Kind::Network.flag())?;
            loopback_up()?;
            Ok(std::net::TcpListener::bind("127.0.0.1:0").is_ok())
        });
        match result.join().unwrap() {
            Err(crate::Errno::EPERM) => {
                eprintln!("SKIP a_new_namespaces_loopback_comes_up: not root");
            }
            result => assert_eq!(result, Ok(true)),
        }
    }
}
