//! A program on a terminal of its own, driven as a person would.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::Winsize,
};

use crate::{binary, command};

/// A program whose controlling terminal is ours.
pub struct Terminal {
    master: File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    closing: Arc<AtomicBool>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts a program on a new terminal of 24 rows and 80 columns.
    pub fn start(program: &Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name =
            ptsname(&master, Vec::new()).expect("ptsname").into_string().expect("a plain name");
        let open =
            || File::options().read(true).write(true).open(&name).expect("the other end opens");
        let slave = open();
        resize(&master, 24, 80);

        // `setsid --ctty` makes its standard input the controlling terminal, then executes.
        let mut command = Command::new(binary::tool("setsid"));
        command
            .arg("--ctty")
            .arg(program.get_program())
            .args(program.get_args())
            .env("TERM", "xterm");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::from(slave));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("spawn({}): {error}", command::shown(&command)));
        // The command holds the other end open; without this the terminal would never hang up.
        drop(command);

        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, kept) = (master.try_clone().expect("dup"), Arc::clone(&seen));
        let closing = Arc::new(AtomicBool::new(false));
        let is_closing = Arc::clone(&closing);
        rustix::io::ioctl_fionbio(&reader, true).expect("ioctl(FIONBIO)");
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other end is closed answers EIO: that is its end.
            while !is_closing.load(Ordering::Relaxed) {
                match reader.read(&mut buffer) {
                    Ok(count @ 1..) => kept
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .extend(&buffer[..count]),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        });
        Self { master, child, seen, closing, reader: Some(reader) }
    }

    /// Everything written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
            .into_owned()
    }

    /// Waits until this has been written.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let mut ended = false;
        command::wait_until(&format!("{text:?} in {:?}", self.text()), || {
            let found = self.text().contains(text);
            assert!(found || !ended, "the program ended without {text:?}: {:?}", self.text());
            ended = self.has_ended();
            found
        });
    }

    /// Whether nobody has the other end open; everything that was written has been read then.
    pub fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// Types this.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("a terminal takes input");
    }

    /// Changes the window's size, as a person drags its corner.
    pub fn resize(&self, rows: u16, columns: u16) {
        let master: OwnedFd = self.master.try_clone().expect("dup").into();
        resize(&master, rows, columns);
    }

    /// The process on the terminal.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the terminal, as a window is closed; returns how the program ended.
    #[track_caller]
    pub fn hang_up(mut self) -> ExitStatus {
        self.closing.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        let null = File::options().read(true).write(true).open("/dev/null").expect("/dev/null");
        // The last descriptor of the master: the kernel sends SIGHUP.
        drop(std::mem::replace(&mut self.master, null));
        let mut status = None;
        command::wait_until("the program whose terminal was closed ends", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("it ended")
    }

    /// Waits for the program's end; returns its exit code and all that was written.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        let mut status = None;
        command::wait_until("the program on the terminal ends", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        let code = status.map_or(-1, |status| {
            status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
        });
        thread::sleep(std::time::Duration::from_millis(20));
        (code, self.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whatever still runs on it would outlive the test.
        if matches!(self.child.try_wait(), Ok(None)) {
            drop((self.child.kill(), self.child.wait()));
        }
    }
}

fn resize(master: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size).expect("tcsetwinsize");
}
