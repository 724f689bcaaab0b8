//! The program: its directory, its home, finding and executing it.

use std::ffi::CStr;
use std::os::fd::AsFd;

use hako_sys::fs::{self, FileKind, OpenFlags};
use hako_sys::{Errno, process};

use super::Init;
use super::walk::{self, Make};
use crate::call::{At, Call, Did};
use crate::op::Target;

impl Init<'_> {
    /// Enters the working directory. The early try (`target` given) makes a missing one, and may
    /// be refused: then the late one, as the container's user, decides. As runc: what the runtime
    /// may enter, the user need not be able to.
    pub(super) fn chdir(&mut self, target: &Option<Target>, path: &CStr, late: bool) -> Did {
        if late && self.entered {
            return Ok(());
        }
        match process::chdir(path) {
            Ok(()) => {}
            Err(Errno::ENOENT) if let Some(target) = target => {
                let root = fs::openat(fs::cwd(), c"/", OpenFlags::PATH | OpenFlags::DIRECTORY, 0)
                    .at(Call::Open)?;
                walk::ensure(root.as_fd(), target, Make::Directory)?;
                process::chdir(path).at(Call::Chdir)?;
            }
            Err(Errno::EACCES | Errno::EPERM) if !late => return Ok(()),
            Err(e) => return Err(e).at(Call::Chdir),
        }
        // It must be the container's, not one that leaked in (CVE-2024-21626).
        if process::cwd_is_inside().at(Call::CwdOutside)? {
            self.entered = true;
            Ok(())
        } else {
            Err(Errno::ENOENT).at(Call::CwdOutside)
        }
    }

    /// Looks which of the candidates is a program that this user may execute.
    pub(super) fn find(&mut self) -> Did {
        if self.outside_program().is_some() {
            return Ok(());
        }
        let mut reason = Errno::ENOENT;
        for (i, candidate) in self.exec.candidates.iter().enumerate() {
            match executable(candidate) {
                Ok(()) => {
                    self.program = i;
                    self.find_home();
                    return Ok(());
                }
                // In a search, only a refusal says more than "not there".
                Err(e) if self.exec.candidates.len() == 1 => reason = e,
                Err(e @ (Errno::EACCES | Errno::EPERM)) => reason = e,
                Err(_) => {}
            }
        }
        Err(reason).at(Call::Exec)
    }

    fn find_home(&mut self) {
        let Some(uid) = self.exec.home_of else { return };
        let found = home_of(uid, |home| self.home.set(&[b"HOME=", home]));
        if !found {
            self.home.set(&[b"HOME=/"]);
        }
    }

    pub(super) fn execute(&mut self) -> Did {
        if let Some(program) = self.outside_program() {
            let (arguments, environment) = (&self.exec.arguments, &self.exec.environment);
            return Err(process::fexecve(program, arguments, environment)).at(Call::Exec);
        }
        let Some(candidate) = self.exec.candidates.get(self.program) else {
            return Err(Errno::ENOENT).at(Call::Exec);
        };
        Err(process::execve(candidate, &self.exec.arguments, &self.exec.environment, self.home()))
            .at(Call::Exec)
    }

    /// `HOME=` and the user's directory, where the environment does not have it.
    pub(super) fn home(&self) -> Option<&CStr> {
        self.exec.home_of.is_some().then(|| self.home.as_c_str())
    }
}

fn executable(path: &CStr) -> hako_sys::Result<()> {
    let stat = fs::statat(fs::cwd(), path, fs::AtFlags::empty())?;
    match stat.kind {
        FileKind::Directory => Err(Errno::EISDIR),
        FileKind::File => fs::may_execute(path),
        _ => Err(Errno::EACCES),
    }
}

/// Gives the home directory of a user in the container's /etc/passwd to `found`; whether that
/// took one. The file is the container's: it may be anything, and no more than 1 MiB is read.
fn home_of(uid: u32, mut found: impl FnMut(&[u8]) -> bool) -> bool {
    // Not waiting for the other end of a FIFO.
    let flags = OpenFlags::RDONLY | OpenFlags::NONBLOCK | OpenFlags::NOCTTY;
    let Ok(file) = fs::openat(fs::cwd(), c"/etc/passwd", flags, 0) else { return false };
    if !fs::fstat(file.as_fd()).is_ok_and(|s| s.kind == FileKind::File) {
        return false;
    }
    let mut line = Line::new(uid);
    let mut buffer = [0u8; 2048];
    for _ in 0..512 {
        match fs::read(file.as_fd(), &mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                for byte in &buffer[..n] {
                    if line.take(*byte)
                        && let Some(home) = line.home()
                    {
                        return found(home);
                    }
                }
            }
        }
    }
    // The last line may have no end.
    line.take(b'\n') && line.home().is_some_and(found)
}

/// One line of passwd at a time, no longer than the buffer.
struct Line {
    uid: u32,
    bytes: [u8; 1024],
    used: usize,
    too_long: bool,
    ended: bool,
}

impl Line {
    fn new(uid: u32) -> Line {
        Line { uid, bytes: [0; 1024], used: 0, too_long: false, ended: false }
    }

    /// Takes a byte; true when that ended a line.
    fn take(&mut self, byte: u8) -> bool {
        if self.ended {
            (self.used, self.too_long, self.ended) = (0, false, false);
        }
        if byte == b'\n' {
            self.ended = true;
        } else if self.used == self.bytes.len() {
            self.too_long = true;
        } else {
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        self.ended
    }

    /// The home directory, if the line is the user's: name:password:uid:gid:gecos:home:shell.
    fn home(&self) -> Option<&[u8]> {
        if self.too_long {
            return None;
        }
        let mut fields = self.bytes[..self.used].split(|b| *b == b':');
        let uid = fields.nth(2)?;
        if uid.is_empty() || !uid.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = uid
            .iter()
            .try_fold(0u32, |n, d| n.checked_mul(10)?.checked_add(u32::from(d - b'0')))?;
        let home = fields.nth(2)?;
        (number == self.uid && home.starts_with(b"/")).then_some(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(uid: u32, passwd: &str) -> Option<String> {
        let mut line = Line::new(uid);
        passwd.bytes().chain([b'\n']).find_map(|b| {
            if line.take(b) {
                line.home().map(|h| String::from_utf8_lossy(h).into_owned())
            } else {
                None
            }
        })
    }

    #[test]
    fn homes_are_found_by_number_only() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\n#c\n1000:x:7:7::/seven:\nlong:x:8:8::/eight\nbad:x:+9:9::/n:\nrel:x:10:10::rel:";
        assert_eq!(home(0, passwd).as_deref(), Some("/root"));
        assert_eq!(home(1000, passwd), None);
        assert_eq!(home(7, passwd).as_deref(), Some("/seven"));
        assert_eq!(home(8, passwd).as_deref(), Some("/eight"));
        assert_eq!(home(9, passwd), None);
        assert_eq!(home(10, passwd), None);
        assert_eq!(
            home(0, &format!("{}\nroot:x:0:0::/r:", "x".repeat(5000))).as_deref(),
            Some("/r")
        );
        assert_eq!(home(0, "x:x:4294967296:0::/wrapped:"), None);
    }
}
