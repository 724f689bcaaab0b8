//! Running maintainer scripts: in a container of ours, over the unpacked packages, without a
//! network. What they wrote becomes one more layer.
//!
//! The container's program is a script of ours that does what debootstrap does after unpacking:
//! preinst scripts in the packages' order, then `dpkg --configure`. What depends on the moment, the
//! machine or the run is left out of the layer, and nothing in it is younger than the packages.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::Path,
};

use hako_assemble::{Assembly, DATABASE};
use hako_bundle::{
    Bind, BindRecursive, EnvChange, MountRequest, MountSource, NetworkMode, RunOptions,
};
use hako_content::Lease;
use hako_deb::Selection;
use hako_image::NewImage;
use hako_layer::{Change, WriteOptions, write_some_changes};
use hako_oci::{Descriptor, image::History};
use hako_snapshot::{ActiveOptions, Snapshotter as _};
use hako_tar::Kind;

use super::{PackagesError, Parts, write};
use crate::{
    CreateRequest, Engine, Error, Record, Result, StartRequest,
    logs::{Entry, Window},
};

/// Where the container finds what it is to do.
const PLACE: &str = "/run/hako";
/// Of a failed run, how much output is told.
const LINES_TOLD: usize = 40;

const SCRIPT: &str = r#"#!/bin/sh
set -eu
umask 022
cp -R /run/hako/dpkg/. /var/lib/dpkg/
if [ ! -e /etc/apt/sources.list ]; then cp /run/hako/sources.list /etc/apt/sources.list; fi
# No service starts (invoke-rc.d asks).
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
while read -r package architecture script; do
    DPKG_MAINTSCRIPT_PACKAGE=$package DPKG_MAINTSCRIPT_ARCH=$architecture \
        DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ROOT='' \
        DPKG_ADMINDIR=/var/lib/dpkg DPKG_RUNNING_VERSION=1.21 "$script" install
done </run/hako/preinst
dpkg --configure --pending --force-confold --force-unsafe-io
rm /usr/sbin/policy-rc.d
"#;

const ENVIRONMENT: &[(&str, &str)] = &[
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ("DEBCONF_NOWARNINGS", "yes"),
    ("LC_ALL", "C.UTF-8"),
    ("LANG", "C.UTF-8"),
    ("HOME", "/root"),
    ("TZ", "UTC"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
];

/// What is not of the image, by path: a directory's content with a slash behind it, all names that
/// end so with a star before it.
const LEFT_OUT: &[&str] = &[
    // Of the run.
    "dev/",
    "proc/",
    "run/",
    "sys/",
    "tmp/",
    "var/tmp/",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/mtab",
    // Of the machine.
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "etc/ssh/ssh_host_",
    "var/lib/systemd/catalog/database",
    "etc/ssl/private/",
    // Of the moment.
    "var/cache/ldconfig/",
    "var/cache/man/",
    "var/cache/fontconfig/",
    "var/log/",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/lib/apt/lists/",
    // Of nobody any more: older versions and locks.
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/debconf/passwords.dat",
    "etc/.pwd.lock",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "root/.bash_history",
];

/// Bytecode holds what the interpreter happened to have in memory.
const BYTECODE: &[u8] = b"__pycache__";

/// The step that made the layer.
pub(super) fn history(created: &str, selection: &Selection) -> History {
    let by = format!("dpkg --configure --pending # {} packages", selection.packages.len());
    History {
        created: Some(created.to_owned()),
        created_by: Some(by),
        comment: Some("configuration".to_owned()),
        ..History::default()
    }
}

impl Engine {
    /// Runs the scripts over these layers, and makes a layer of what they wrote.
    pub(super) fn configure(
        &self,
        lease: &Lease,
        parts: &Parts,
        config: Vec<u8>,
        selection: &Selection,
        assembly: &Assembly,
    ) -> Result<Descriptor> {
        // An image without a name: what a kill leaves of it, `image prune` removes.
        let images = self.images()?;
        let unfinished = images.content().lease()?;
        for layer in &parts.layers {
            unfinished.keep(layer)?;
        }
        let (layers, names) = (parts.layers.clone(), Vec::new());
        let image = images.publish(unfinished, NewImage { config, layers, names })?.id.to_string();
        let instructions = tempfile::tempdir_in(&self.places.run_root)
            .map_err(Error::io("mkdir", &self.places.run_root))?;
        let made = instruct(instructions.path(), selection, assembly)
            .and_then(|()| self.run_scripts(lease, &image, instructions.path(), assembly));
        let removed = self.remove_image(&image, false);
        let made = made?;
        removed?;
        Ok(made)
    }

    fn run_scripts(
        &self,
        lease: &Lease,
        image: &str,
        instructions: &Path,
        assembly: &Assembly,
    ) -> Result<Descriptor> {
        let mut options = RunOptions {
            entrypoint: Some(vec![String::new()]),
            command: vec!["/bin/sh".into(), format!("{PLACE}/configure")],
            user: Some("0:0".into()),
            workdir: Some("/".into()),
            network: NetworkMode::None,
            hostname: Some("localhost".into()),
            ..RunOptions::default()
        };
        let bind = Bind {
            path: instructions.to_path_buf(),
            create: false,
            propagation: None,
            recursive: BindRecursive::default(),
            relabel: None,
        };
        options.mounts.push(MountRequest {
            target: PLACE.into(),
            source: MountSource::Bind(bind),
            readonly: true,
        });
        let date = ("SOURCE_DATE_EPOCH".to_owned(), assembly.date().to_string());
        let environment = ENVIRONMENT.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        options.env =
            environment.chain([date]).map(|(name, value)| EnvChange::Set(name, value)).collect();
        let record =
            Record { image: image.to_owned(), options, log_files_max: 1, ..Record::default() };
        // dpkg syncs each file that it writes: for what is read once and thrown away.
        let options = ActiveOptions { volatile: true };
        let container = self.create_with(CreateRequest { name: None, record }, options)?;
        let made = self.start(&container, StartRequest::default()).and_then(|mut attachment| {
            let exit = attachment.wait(None)?;
            self.finish(attachment)?;
            let status = exit.map_or(-1, |exit| exit.code);
            if status != 0 {
                let output = self.last_lines(&container)?;
                return Err(PackagesError::Configure { status, output }.into());
            }
            let upper = self.snapshots()?.changes(&container.id)?;
            write(lease, |out| layer(&upper, assembly, out))
        });
        let removed = self.remove(&container, true);
        let made = made?;
        removed?;
        Ok(made)
    }

    fn last_lines(&self, container: &crate::Container) -> Result<String> {
        let mut lines: VecDeque<String> = VecDeque::new();
        let mut log = self.logs(container, Window::default(), false)?;
        while let Some(Entry { text, .. }) = log.next_entry()? {
            if lines.len() == LINES_TOLD {
                lines.pop_front();
            }
            lines.push_back(text);
        }
        Ok(lines.into_iter().collect::<String>().trim_end().to_owned())
    }
}

/// Writes what the container is to find.
fn instruct(place: &Path, selection: &Selection, assembly: &Assembly) -> Result<()> {
    let put = |name: &str, content: &[u8]| {
        let path = place.join(name);
        let parent = path.parent().unwrap_or(place);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, content))
            .map_err(Error::io("write", &path))
    };
    put("configure", SCRIPT.as_bytes())?;
    for (name, content) in assembly.dpkg_state()? {
        put(&format!("dpkg/{name}"), &content)?;
    }
    let mut preinst = String::new();
    for package in assembly.packages().iter().filter(|package| package.has("preinst")) {
        let control = package.control();
        let (name, architecture) = (control.package(), control.architecture());
        let script = format!("/{DATABASE}/info/{}.preinst", control.info_name());
        preinst.push_str(&format!("{name} {architecture} {script}\n"));
    }
    put("preinst", preinst.as_bytes())?;
    let mut sources = String::new();
    for origin in &selection.origins {
        let components = origin.components.join(" ");
        sources.push_str(&format!("deb {} {} {components}\n", origin.uri, origin.suite));
    }
    put("sources.list", sources.as_bytes())
}

/// Whether a changed path is part of the image. Logs that programs want to be there stay, empty.
fn is_kept(path: &[u8], size: u64) -> bool {
    if path.split(|&b| b == b'/').any(|name| name == BYTECODE) {
        return false;
    }
    if path.starts_with(b"var/log/") {
        return size == 0;
    }
    !LEFT_OUT.iter().any(|one| match one.as_bytes() {
        [directory @ .., b'/'] => {
            path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
        }
        [prefix @ .., b'_'] => path.starts_with(prefix),
        name => name == path,
    })
}

/// The layer of what was written.
fn layer(upper: &hako_root::Root, assembly: &Assembly, out: impl std::io::Write) -> Result<()> {
    // A hard link may lead to what is left out.
    let mut left_out: BTreeSet<Vec<u8>> = BTreeSet::new();
    let keep = &mut |change: &Change<'_>| match change {
        Change::Entry { header, .. } => {
            let kept = is_kept(&header.path, header.size)
                && !(header.kind == Kind::HardLink && left_out.contains(&header.link));
            if !kept {
                left_out.insert(header.path.clone());
            }
            kept
        }
        Change::Removed { path } | Change::Emptied { path } => is_kept(path, 0),
    };
    let options = WriteOptions { mtime_max: Some(assembly.date()) };
    write_some_changes(upper, out, options, keep)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_run_is_left_out() {
        for (path, size, kept) in [
            ("etc/passwd", 900, true),
            ("etc/passwd-", 900, false),
            ("run", 0, true),
            ("run/hako", 0, false),
            ("runner", 0, true),
            ("var/log", 0, true),
            ("var/log/dpkg.log", 5000, false),
            ("var/log/wtmp", 0, true),
            ("usr/lib/python3/dist-packages/__pycache__/a.pyc", 10, false),
            ("usr/lib/python3/dist-packages/__pycache__", 0, false),
            ("etc/ssh/ssh_host_rsa_key", 10, false),
            ("etc/hosts", 0, false),
            ("etc/hosts.allow", 10, true),
        ] {
            assert_eq!(is_kept(path.as_bytes(), size), kept, "{path}");
        }
    }
}
