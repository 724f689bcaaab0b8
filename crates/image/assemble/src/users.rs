//! `/etc/passwd` and `/etc/group` as base-passwd makes them, without its program.

use crate::{Result, layer::Made, unpack::Unpacked};

/// Whom programs run as that need no rights: the number that distroless images have made usual.
pub const NONROOT: u32 = 65_532;

/// The package whose masters these are.
pub(crate) const PACKAGE: &str = "base-passwd";
const MASTERS: [(&[u8], &str); 2] = [
    (b"usr/share/base-passwd/passwd.master", "etc/passwd"),
    (b"usr/share/base-passwd/group.master", "etc/group"),
];
const HOME: &str = "home/nonroot";
const MASTER_BYTES_MAX: u64 = 1 << 20;

/// Users and groups of an image without a shell.
pub(crate) fn make(packages: &[Unpacked]) -> Result<Vec<Made>> {
    let nonroot = [
        format!("nonroot:x:{NONROOT}:{NONROOT}:nonroot:/{HOME}:/usr/sbin/nologin\n"),
        format!("nonroot:x:{NONROOT}:\n"),
    ];
    let mut made = vec![Made::directory(HOME, 0o700).owned(NONROOT, NONROOT)];
    let donor = packages.iter().find(|package| package.name() == PACKAGE);
    for ((master, path), nonroot) in MASTERS.iter().zip(nonroot) {
        let text = match donor.and_then(|donor| Some((donor, donor.find(master)?))) {
            Some((donor, entry)) => donor.read(entry, MASTER_BYTES_MAX)?,
            None => Vec::new(),
        };
        let mut lines: Vec<u8> = Vec::with_capacity(text.len() + nonroot.len());
        for line in text.split_inclusive(|&b| b == b'\n') {
            lines.extend(without_shell(line));
        }
        lines.extend(nonroot.as_bytes());
        made.push(Made::file(*path, 0o644, lines));
    }
    Ok(made)
}

/// A line of passwd whose shell is one that is there: none.
fn without_shell(line: &[u8]) -> Vec<u8> {
    let fields: Vec<&[u8]> = line.trim_ascii_end().split(|&b| b == b':').collect();
    match fields[..] {
        [.., shell] if fields.len() == 7 && shell != b"/usr/sbin/nologin" => {
            [&fields[..6].join(&b':'), &b":/usr/sbin/nologin\n"[..]].concat()
        }
        _ => line.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_a_shell_that_is_not_there() {
        for (line, want) in [
            ("root:*:0:0:root:/root:/bin/bash\n", "root:*:0:0:root:/root:/usr/sbin/nologin\n"),
            ("man:*:6:12:man:/a:/usr/sbin/nologin\n", "man:*:6:12:man:/a:/usr/sbin/nologin\n"),
            ("staff:*:50:\n", "staff:*:50:\n"),
            ("_apt:*:42:65534::/a:/bin/sh", "_apt:*:42:65534::/a:/usr/sbin/nologin\n"),
        ] {
            assert_eq!(without_shell(line.as_bytes()), want.as_bytes());
        }
    }
}
