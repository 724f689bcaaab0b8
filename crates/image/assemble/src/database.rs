//! The packages of an image, told to scanners: `/var/lib/dpkg/status.d`, as distroless images have
//! it. dpkg itself does not read it, so an image with dpkg has no such directory.
//!
//! ```text
//! var/lib/dpkg/status.d/NAME           the package's control file, and its state
//! var/lib/dpkg/status.d/NAME.md5sums   its files
//! ```

use md5::{Digest as _, Md5};

use crate::{
    Error, Result,
    error::lossy,
    layer::Made,
    unpack::{Entry, Unpacked},
};

const DIRECTORY: &str = "var/lib/dpkg/status.d";
const INSTALLED: &str = "install ok installed";

/// Both files of a package.
pub(crate) fn make(package: &Unpacked) -> Result<Vec<Made>> {
    let name = package.name();
    let status = status(package, INSTALLED, "");
    let sums = md5sums(package)?;
    Ok(vec![
        Made::file(format!("{DIRECTORY}/{name}"), 0o644, status),
        Made::file(format!("{DIRECTORY}/{name}.md5sums"), 0o644, sums),
    ])
}

/// The control file with its state behind its first field, as dpkg writes it.
pub(crate) fn status(package: &Unpacked, state: &str, more: &str) -> Vec<u8> {
    let mut text = format!("Package: {}\nStatus: {state}\n", package.name());
    for (name, value) in package.control().fields() {
        if !["package", "status"].contains(&name.to_ascii_lowercase().as_str()) {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    text.push_str(more);
    text.into_bytes()
}

/// The package's list of its files' sums, or one made of its files where it has none.
pub(crate) fn md5sums(package: &Unpacked) -> Result<Vec<u8>> {
    if let Some(sums) = package.member("md5sums") {
        return Ok(sums.to_vec());
    }
    let conffiles = conffiles(package);
    let mut sums = Vec::new();
    for entry in package.entries.iter().filter(|entry| is_file(entry)) {
        if !conffiles.contains(&&entry.header.path[..]) {
            sums.extend(format!("{}  ", md5(package, entry)?).into_bytes());
            sums.extend(&entry.header.path);
            sums.push(b'\n');
        }
    }
    Ok(sums)
}

fn is_file(entry: &Entry) -> bool {
    entry.header.kind == hako_tar::Kind::File
}

/// Paths of the package's configuration files.
pub(crate) fn conffiles(package: &Unpacked) -> Vec<&[u8]> {
    let lines = package.member("conffiles").unwrap_or_default().split(|&b| b == b'\n');
    // One that the package wants removed has a word before it.
    lines.filter_map(|line| line.trim_ascii_end().strip_prefix(b"/")).collect()
}

pub(crate) fn md5(package: &Unpacked, entry: &Entry) -> Result<String> {
    let mut hasher = Md5::new();
    let mut content = package.content(entry);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = std::io::Read::read(&mut content, &mut buffer);
        match read.map_err(Error::io("read", lossy(&entry.header.path)))? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
