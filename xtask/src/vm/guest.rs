//! What the guest holds: busybox, kernel modules, test programs with their libraries, and the jobs.
//!
//! ```text
//! /init, /vm/run-jobs        tests/vm/
//! /vm/jobs/<n>/run, limit    one shell script per job, and its seconds
//! /bin/busybox               all applets are linked by init
//! /usr/bin, /usr/sbin        tools and peers, with the shared libraries they name
//! <path on the host>         test programs and their data, where they were built
//! ```
//!
//! A test program knows paths from its build (its package, its fixtures, programs beside it):
//! it stands in the guest at the path it has on the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Tree;
use super::error::{At, Error, Result, output};

/// One program or script to run in the guest.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Run by the guest's shell.
    pub(crate) script: String,
    pub(crate) seconds_max: u64,
}

/// How a job's output is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One case: its exit code.
    Command,
    /// Many cases, told in the words of Rust's test harness.
    Tests,
}

pub(crate) fn add_scripts(tree: &mut Tree, workspace: &Path) -> Result<()> {
    let from = workspace.join("tests/vm");
    for (name, to, mode) in [("init", "/init", 0o755), ("run-jobs", "/vm/run-jobs", 0o755)] {
        let from = from.join(name);
        tree.bytes(to, mode, std::fs::read(&from).at("read", &from)?);
    }
    let files = [
        (
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:101:101::/nonexistent:/bin/false\n\
             user:x:1000:1000:user:/tmp:/bin/sh\n",
        ),
        ("/etc/group", "root:x:0:\nmessagebus:x:101:\nuser:x:1000:\n"),
        ("/etc/subuid", "user:100000:65536\n"),
        ("/etc/subgid", "user:100000:65536\n"),
        ("/etc/hosts", "127.0.0.1 localhost guest\n"),
    ];
    for (path, text) in files {
        tree.bytes(path, 0o644, text);
    }
    Ok(())
}

pub(crate) fn add_busybox(tree: &mut Tree, package: &Path) -> Result<()> {
    tree.file("/bin/busybox", &package.join("bin/busybox"))?;
    // The kernel's helper, which it looks for here.
    tree.symlink("/sbin/modprobe", "/bin/busybox");
    // busybox's shell prefers its applets to programs in PATH, so tests would miss the real tools.
    let shell = if tree.contains(Path::new("/usr/bin/dash")) { "/usr/bin/dash" } else { "busybox" };
    tree.symlink("/bin/sh", shell);
    Ok(())
}

/// Adds systemd, to be PID 1, and the message bus on which it is spoken to. The jobs are a service of it.
///
/// The packages are unpacked, not installed: what their maintainer scripts would do and a boot needs is done here.
pub(crate) fn add_systemd(tree: &mut Tree, root: &Path, workspace: &Path) -> Result<()> {
    tree.copy_without(Path::new("/"), root, UNWANTED)?;
    let service = workspace.join("tests/vm/jobs.service");
    tree.copy(Path::new("/etc/systemd/system/jobs.service"), &service)?;
    tree.bytes("/etc/machine-id", 0o444, "00000000000000000000000000000001\n");
    for unit in MASKED {
        tree.symlink(format!("/etc/systemd/system/{unit}"), "/dev/null");
    }
    Ok(())
}

/// What is never read in the guest.
const UNWANTED: &[&str] = &[
    "/usr/share/doc",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/share/i18n",
    "/usr/share/zoneinfo",
    "/usr/share/perl5",
    "/usr/share/bash-completion",
    "/usr/share/zsh",
    "/usr/share/lintian",
    "/usr/share/bug",
    "/usr/lib/x86_64-linux-gnu/gconv",
    "/usr/lib/x86_64-linux-gnu/perl-base",
    "/usr/bin/perl",
    "/usr/bin/perl5.36.0",
    "/lib/udev",
    "/usr/lib/udev",
];

/// Units that only cost time in a guest that lives for a minute.
const MASKED: &[&str] = &[
    "systemd-journal-flush.service",
    "systemd-update-utmp.service",
    "systemd-random-seed.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrmachine.service",
    "systemd-firstboot.service",
    "systemd-binfmt.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-remount-fs.service",
    "systemd-machine-id-commit.service",
    "systemd-boot-system-token.service",
    "systemd-logind.service",
    "systemd-tmpfiles-clean.timer",
    "dev-mqueue.mount",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-setup.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-ask-password-console.path",
];

pub(crate) fn add_jobs(tree: &mut Tree, jobs: &[Job]) {
    for (number, job) in jobs.iter().enumerate() {
        let dir = PathBuf::from(format!("/vm/jobs/{number:04}"));
        tree.bytes(dir.join("run"), 0o644, job.script.as_str());
        tree.bytes(dir.join("limit"), 0o644, job.seconds_max.to_string());
    }
}

/// Adds a program of the host at `to`, and the shared libraries it names where the loader looks for them.
pub(crate) fn add_program(tree: &mut Tree, to: &Path, from: &Path) -> Result<()> {
    let from = &from.canonicalize().at("find", from)?;
    tree.file(to, from)?;
    let text = match output(Command::new("ldd").arg(from).env("LC_ALL", "C")) {
        Ok(text) => text,
        // ldd's way of saying that there are none.
        Err(Error::Command { stderr, .. }) if stderr.contains("not a dynamic executable") => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for library in libraries(&String::from_utf8_lossy(&text)) {
        let library = library.map_err(|name| Error::Unavailable {
            what: from.display().to_string(),
            why: format!("its shared library {name} is not on this host"),
        })?;
        if !tree.contains(&library) {
            let real = library.canonicalize().at("find", &library)?;
            tree.file(&library, &real)?;
        }
    }
    Ok(())
}

/// The paths in ldd's output; `Err` holds the name of one that was not found.
fn libraries(text: &str) -> Vec<std::result::Result<PathBuf, String>> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let (name, found) = line.split_once(" => ").unwrap_or((line, line));
            if found.starts_with("not found") {
                return Some(Err(name.to_owned()));
            }
            let path = found.split(" (").next().unwrap_or(found);
            path.starts_with('/').then(|| Ok(PathBuf::from(path)))
        })
        .collect()
}

/// Quotes a word for the guest's shell.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_ldds_words() {
        let text = "\tlinux-vdso.so.1 (0x00007fdb1067d000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fdb10323000)\n\
                    \tlibyajl.so.2 => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007fdb1067f000)\n";
        assert_eq!(
            libraries(text),
            [
                Ok("/lib/x86_64-linux-gnu/libc.so.6".into()),
                Err("libyajl.so.2".to_owned()),
                Ok("/lib64/ld-linux-x86-64.so.2".into()),
            ]
        );
        assert_eq!(libraries("\tstatically linked\n"), []);
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
