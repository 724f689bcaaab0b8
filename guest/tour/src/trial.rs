//! `try`: attempts things that isolation allows or refuses, and says which it was.
//!
//! Each attempt is chosen so that it changes nothing when it succeeds where it should not:
//! `reboot` only disables Ctrl-Alt-Del, clocks are set to themselves.

use std::process::ExitCode;

use rustix::{
    fs::{FileType, Mode, Timespec},
    io::Errno,
    mount::{MountFlags, UnmountFlags},
    net::{AddressFamily, SocketType, ipproto},
    system::RebootCommand,
};

struct Trial {
    name: &'static str,
    about: &'static str,
    attempt: fn() -> Result<(), Errno>,
}

const TRIALS: &[Trial] = &[
    Trial {
        name: "raw-socket",
        about: "open a raw IP socket, as ping does (CAP_NET_RAW)",
        attempt: || {
            let (family, kind) = (AddressFamily::INET, SocketType::RAW);
            rustix::net::socket(family, kind, Some(ipproto::ICMP)).map(drop)
        },
    },
    Trial {
        name: "reboot",
        about: "command the machine's restart keys (CAP_SYS_BOOT)",
        attempt: || rustix::system::reboot(RebootCommand::CadOff),
    },
    Trial {
        name: "mount",
        about: "mount a tmpfs on /tmp (CAP_SYS_ADMIN)",
        attempt: || {
            rustix::mount::mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), None)?;
            rustix::mount::unmount("/tmp", UnmountFlags::DETACH)
        },
    },
    Trial {
        name: "set-hostname",
        about: "set the host name to what it is (CAP_SYS_ADMIN)",
        attempt: || rustix::system::sethostname(rustix::system::uname().nodename().to_bytes()),
    },
    Trial {
        name: "set-clock",
        about: "set the machine's clock to what it is (CAP_SYS_TIME)",
        attempt: || {
            let clock = rustix::time::ClockId::Realtime;
            let now: Timespec = rustix::time::clock_gettime(clock);
            rustix::time::clock_settime(clock, now)
        },
    },
    Trial {
        name: "mknod",
        about: "make a device node (CAP_MKNOD)",
        attempt: || {
            let device = rustix::fs::makedev(1, 3);
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, "/tmp/tour-null", kind, Mode::RUSR, device)?;
            rustix::fs::unlink("/tmp/tour-null")
        },
    },
    Trial {
        name: "chroot",
        about: "change the root directory to itself (CAP_SYS_CHROOT)",
        attempt: || rustix::process::chroot("/"),
    },
    Trial {
        name: "write-root",
        about: "create a file in / (a writable root file system)",
        attempt: || {
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            rustix::fs::open("/tour-write", flags, Mode::RUSR).map(drop)?;
            rustix::fs::unlink("/tour-write")
        },
    },
    Trial {
        name: "write-sysctl",
        about: "write a kernel parameter (a writable /proc/sys)",
        attempt: || {
            let path = "/proc/sys/kernel/hostname";
            rustix::fs::open(path, rustix::fs::OFlags::WRONLY, Mode::empty()).map(drop)
        },
    },
];

/// Tries what the arguments name, or everything. Success if all of it was allowed.
pub(crate) fn run(names: &[String]) -> Result<ExitCode, String> {
    let mut refused = false;
    if let Some(name) = names.iter().find(|n| !TRIALS.iter().any(|t| t.name == n.as_str())) {
        let known: Vec<&str> = TRIALS.iter().map(|t| t.name).collect();
        return Err(format!("{name:?} is none of: {}", known.join(", ")));
    }
    for trial in TRIALS.iter().filter(|t| names.is_empty() || names.iter().any(|n| n == t.name)) {
        let verdict = match (trial.attempt)() {
            Ok(()) => "allowed".to_owned(),
            Err(errno) => {
                refused = true;
                let error = std::io::Error::from(errno).to_string();
                format!("refused: {}", error.split(" (os error").next().unwrap_or(&error))
            }
        };
        println!("{:13} {verdict:34} {}", trial.name, trial.about);
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
