//! What the maintainer scripts of the lowest packages make, for images that run none.

use crate::{layer::Made, tree::Tree, unpack::Unpacked};

enum Kind {
    Directory(u32),
    Link(&'static str),
    File(&'static str),
}

/// By whom, where and what. Where a package has something itself, that counts.
const MADE: &[(&str, &str, Kind)] = &[
    ("base-files", "boot", Kind::Directory(0o755)),
    ("base-files", "media", Kind::Directory(0o755)),
    ("base-files", "mnt", Kind::Directory(0o755)),
    ("base-files", "opt", Kind::Directory(0o755)),
    ("base-files", "srv", Kind::Directory(0o755)),
    ("base-files", "etc/opt", Kind::Directory(0o755)),
    ("base-files", "var/opt", Kind::Directory(0o755)),
    ("base-files", "var/tmp", Kind::Directory(0o1777)),
    ("base-files", "tmp", Kind::Directory(0o1777)),
    ("base-files", "run/lock", Kind::Directory(0o1777)),
    ("base-files", "usr/local/bin", Kind::Directory(0o755)),
    ("base-files", "usr/local/etc", Kind::Directory(0o755)),
    ("base-files", "usr/local/lib", Kind::Directory(0o755)),
    ("base-files", "usr/local/sbin", Kind::Directory(0o755)),
    ("base-files", "usr/local/share", Kind::Directory(0o755)),
    ("base-files", "var/spool/mail", Kind::Link("../mail")),
    ("base-files", "etc/dpkg/origins/default", Kind::Link("debian")),
    ("base-files", "etc/nsswitch.conf", Kind::File(NSSWITCH)),
    ("tzdata", "etc/localtime", Kind::Link("/usr/share/zoneinfo/Etc/UTC")),
    ("tzdata", "etc/timezone", Kind::File("Etc/UTC\n")),
];

/// The lowest package of all.
pub(crate) const PACKAGE: &str = "base-files";

/// Directories of base-files that its script makes links of. It would fail if another package had
/// put something into one meanwhile.
pub(crate) const LINKS: &[(&str, &str)] = &[("var/run", "/run"), ("var/lock", "/run/lock")];

/// The group of /var/mail.
const MAIL: u32 = 8;

const NSSWITCH: &str = "\
passwd:         files
group:          files
shadow:         files

hosts:          files dns
networks:       files

protocols:      files
services:       files
";

/// What `package` makes.
pub(crate) fn make(package: &Unpacked, tree: &Tree) -> Vec<Made> {
    let by = |one: &&(&str, &str, Kind)| one.0 == package.name() && tree.is_free(one.1.as_bytes());
    let mut made: Vec<Made> = MADE
        .iter()
        .filter(by)
        .map(|(_, path, kind)| match kind {
            Kind::Directory(mode) => Made::directory(*path, *mode),
            Kind::Link(target) => Made::link(*path, *target),
            Kind::File(text) => Made::file(*path, 0o644, text.as_bytes().to_vec()),
        })
        .collect();
    if package.name() == PACKAGE && tree.is_free(b"var/mail") {
        made.push(Made::directory("var/mail", 0o2775).owned(0, MAIL));
    }
    made
}

/// The links that an image with base-files has, whoever runs its scripts.
pub(crate) fn links() -> impl Iterator<Item = Made> {
    LINKS.iter().map(|(path, target)| Made::link(*path, *target))
}
