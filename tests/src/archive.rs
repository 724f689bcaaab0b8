//! Writes tar archives byte by byte, right ones and wrong ones.
//!
//! The tests must be able to write what no honest writer would, so this shares no code with
//! `hako-tar`.

/// One tar entry; every field goes into the header as it is.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path, at most 100 bytes (longer ones need a record of their own).
    pub name: Vec<u8>,
    /// `b'0'` file, `b'1'` hard link, `b'2'` symbolic link, `b'3'` and `b'4'` devices, `b'5'` directory …
    pub kind: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Device number.
    pub device: (u32, u32),
    /// Content.
    pub data: Vec<u8>,
    /// The size field, where it is not to be the content's length.
    pub size: Option<Vec<u8>>,
}

impl Entry {
    /// A regular file.
    pub fn file(name: &str, mode: u32, data: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            kind: b'0',
            mode,
            uid: 0,
            gid: 0,
            link: Vec::new(),
            device: (0, 0),
            data: data.into(),
            size: None,
        }
    }

    /// A directory.
    pub fn directory(name: &str, mode: u32) -> Self {
        Self { kind: b'5', ..Self::file(name, mode, "") }
    }

    /// A symbolic link.
    pub fn symlink(name: &str, target: &str) -> Self {
        Self { kind: b'2', link: target.into(), ..Self::file(name, 0o777, "") }
    }

    /// A hard link.
    pub fn hard_link(name: &str, target: &str) -> Self {
        Self { kind: b'1', link: target.into(), ..Self::file(name, 0o644, "") }
    }

    /// A character device.
    pub fn device(name: &str, major: u32, minor: u32) -> Self {
        Self { kind: b'3', device: (major, minor), ..Self::file(name, 0o666, "") }
    }

    /// The same, owned by another.
    #[must_use]
    pub fn owned(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// A PAX header for the next entry.
    pub fn pax(records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length += 1;
            }
            data.extend(format!("{length} {key}=").bytes());
            data.extend(*value);
            data.push(b'\n');
        }
        Self { kind: b'x', ..Self::file("PaxHeaders/x", 0o644, data) }
    }

    /// A GNU record with the name (`b'L'`) or link (`b'K'`) of the next entry.
    pub fn gnu_long(kind: u8, text: &str) -> Self {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        Self { kind, ..Self::file("././@LongLink", 0, data) }
    }

    fn header(&self) -> [u8; 512] {
        let mut header = [0; 512];
        let mut put = |offset: usize, length: usize, bytes: &[u8]| {
            let count = bytes.len().min(length);
            header[offset..offset + count].copy_from_slice(&bytes[..count]);
        };
        put(0, 100, &self.name);
        put(100, 8, format!("{:07o}\0", self.mode).as_bytes());
        put(108, 8, &number(self.uid.into(), 8));
        put(116, 8, &number(self.gid.into(), 8));
        match &self.size {
            Some(bytes) => put(124, 12, bytes),
            None => put(124, 12, &number(self.data.len() as u64, 12)),
        }
        put(136, 12, b"00000000000\0");
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, &self.link);
        put(257, 8, b"ustar\x0000");
        put(329, 8, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, 8, format!("{:07o}\0", self.device.1).as_bytes());
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }
}

/// Octal where it fits, base-256 where not.
fn number(value: u64, length: usize) -> Vec<u8> {
    let octal = format!("{value:0width$o}\0", width = length - 1);
    if octal.len() <= length {
        return octal.into_bytes();
    }
    let mut bytes = vec![0; length];
    bytes[length - 8..].copy_from_slice(&value.to_be_bytes());
    bytes[0] |= 0x80;
    bytes
}

/// Entries one after another, each padded, and the two empty blocks at the end.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = tar_without_end(entries);
    bytes.extend([0; 1024]);
    bytes
}

/// The same without the two empty blocks.
pub fn tar_without_end(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut entry = entry.clone();
        if entry.name.len() > 100 {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            bytes.extend(tar_without_end(&[Entry::gnu_long(b'L', &name)]));
            entry.name.truncate(100);
        }
        bytes.extend(entry.header());
        bytes.extend(&entry.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

/// Compresses as gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory can be written")
}

/// The content of a gzip member.
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut decoder, &mut content).expect("a gzip member");
    content
}

/// SHA-256 as `<hex>`.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_what_is_written() {
        let Some(program) = crate::command::find("tar") else {
            return eprintln!("SKIP tar_reads: no tar");
        };
        let long = format!("d/{}", "n".repeat(150));
        let bytes = tar(&[
            Entry::directory("d/", 0o755),
            Entry::file("d/f", 0o640, "hello").owned(1000, u32::MAX - 1),
            Entry::symlink("d/l", "f"),
            Entry::pax(&[("path", b"d/renamed")]),
            Entry::file("x", 0o600, "pax"),
            Entry::file(&long, 0o600, "long"),
        ]);
        let listing = crate::command::run_with(
            std::process::Command::new(program).args(["-tvf", "-", "--numeric-owner"]),
            &bytes,
        );
        let listing = listing.ok();
        for part in ["drwxr-xr-x", "-rw-r-----", "1000/4294967294", "d/l -> f", "d/renamed", &long]
        {
            assert!(listing.contains(part), "{part} not in\n{listing}");
        }
    }
}
