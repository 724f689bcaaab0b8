//! A binary package: an `ar` archive of three members (deb(5)).
//!
//! ```text
//! debian-binary            "2.0\n"
//! control.tar[.gz|xz|zst]  the control file, scripts, checksums
//! data.tar[.gz|xz|zst]     the files
//! ```
//!
//! Members whose names begin with `_` are skipped, as dpkg does; any other is an error.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use hako_layer::{Compression, decompress};
use hako_tar::Kind;

use crate::{Control, Error, Result, control};

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;
/// Of the whole `control.tar`, compressed and not. The largest of Debian's have 2 MB of checksums.
const CONTROL_BYTES_MAX: u64 = 16 << 20;
const MEMBERS_MAX: usize = 64;
/// Of the decompressed `data.tar`.
const DATA_BYTES_MAX: u64 = 64 << 30;
/// Members of the archive that are skipped, and the size of one.
const SKIPPED_MAX: usize = 16;
const SKIPPED_BYTES_MAX: u64 = 1 << 20;

/// A file of `control.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A package that is being read. Its bytes are not trusted.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let deb = hako_deb::Deb::open(std::fs::File::open("hello.deb")?)?;
/// println!("{} {}", deb.control().package(), deb.control().version());
/// let mut files = hako_tar::Reader::new(std::io::BufReader::new(deb.into_data()));
/// while let Some(entry) = files.next_entry()? {
///     println!("{}", String::from_utf8_lossy(&entry.header().path));
/// }
/// # Ok(())
/// # }
/// ```
pub struct Deb<'a> {
    control: Control,
    members: BTreeMap<String, Member>,
    data: Box<dyn Read + Send + 'a>,
}

impl<'a> Deb<'a> {
    /// Reads a package up to its files.
    pub fn open(mut reader: impl Read + Send + 'a) -> Result<Deb<'a>> {
        let mut magic = [0; MAGIC.len()];
        fill(&mut reader, &mut magic)?;
        if magic != MAGIC {
            return Err(bad("it is no ar archive"));
        }
        let (name, size) = next_member(&mut reader, &mut 0)?;
        if name != "debian-binary" || size > 64 {
            return Err(bad(format!("its first member is {name:?}, want \"debian-binary\"")));
        }
        let mut version = vec![0; size as usize];
        fill(&mut reader, &mut version)?;
        skip_padding(&mut reader, size)?;
        if !version.starts_with(b"2.") {
            let version = String::from_utf8_lossy(&version).trim_end().to_owned();
            return Err(bad(format!("it has version {version:?} of the format, want 2.0")));
        }
        let mut skipped = 0;
        let (name, size) = next_member(&mut reader, &mut skipped)?;
        if !is_tar(&name, "control.tar") || size > CONTROL_BYTES_MAX {
            return Err(bad(format!("after the version comes {name:?} of {size} bytes")));
        }
        let mut bytes = Exact { inner: &mut reader, left: size };
        let members = read_members(&mut bytes, &name)?;
        // What the decompressor left: zeros behind the tar.
        io::copy(&mut bytes, &mut io::sink()).map_err(cut)?;
        skip_padding(&mut reader, size)?;
        let file = members.get("control").ok_or_else(|| bad("there is no control file in it"))?;
        let control = Control::parse(&file.bytes)?;

        let (name, size) = next_member(&mut reader, &mut skipped)?;
        if !is_tar(&name, "data.tar") {
            return Err(bad(format!("after control.tar comes {name:?}, want data.tar")));
        }
        let exact = Exact { inner: reader, left: size };
        let (compression, data) = decompress(exact).map_err(cut)?;
        check_name(&name, compression)?;
        let data = Bounded { inner: data, left: DATA_BYTES_MAX };
        Ok(Deb { control, members, data: Box::new(data) })
    }

    /// Its control file.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// All files of `control.tar`, by name: `md5sums`, `conffiles`, `postinst`, `triggers` and so on.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// The file of this name in `control.tar`.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// Its files: a tar without compression, which ends in an error where the package was cut.
    pub fn into_data(self) -> Box<dyn Read + Send + 'a> {
        self.data
    }
}

impl std::fmt::Debug for Deb<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deb").field("control", &self.control).finish_non_exhaustive()
    }
}

fn bad(why: impl Into<String>) -> Error {
    Error::Deb(why.into())
}

fn cut(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => bad("it ends too early"),
        _ => Error::ReadDeb(e),
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<()> {
    reader.read_exact(buffer).map_err(cut)
}

/// Name and size of the next member that is not to be skipped.
fn next_member(reader: &mut impl Read, skipped: &mut usize) -> Result<(String, u64)> {
    loop {
        let mut header = [0; HEADER_BYTES];
        fill(reader, &mut header)?;
        let text = str::from_utf8(&header).ok().filter(|text| text.is_ascii());
        let text = text
            .filter(|text| text.ends_with("`\n"))
            .ok_or_else(|| bad("a member's header is broken"))?;
        let name = text[..16].trim_end_matches(' ').trim_end_matches('/').to_owned();
        let digits = text[48..58].trim_end_matches(' ');
        let size = Some(digits).filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
        let size: u64 = size
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| bad(format!("the size of {name:?} is no number")))?;
        if !name.starts_with('_') {
            return Ok((name, size));
        }
        *skipped += 1;
        if *skipped > SKIPPED_MAX || size > SKIPPED_BYTES_MAX {
            return Err(bad("it has too much that is to be skipped"));
        }
        io::copy(&mut Exact { inner: &mut *reader, left: size }, &mut io::sink()).map_err(cut)?;
        skip_padding(reader, size)?;
    }
}

/// Members begin at even offsets.
fn skip_padding(reader: &mut impl Read, size: u64) -> Result<()> {
    match size % 2 {
        0 => Ok(()),
        _ => fill(reader, &mut [0]),
    }
}

const ENDINGS: &[(&str, Compression)] = &[
    (".gz", Compression::Gzip),
    (".xz", Compression::Xz),
    (".zst", Compression::Zstd),
    (".bz2", Compression::Bzip2),
    ("", Compression::None),
];

fn is_tar(name: &str, stem: &str) -> bool {
    let ending = name.strip_prefix(stem);
    ending.is_some_and(|ending| ENDINGS.iter().any(|(known, _)| *known == ending))
}

/// dpkg goes by the name: what is compressed otherwise would be read differently there.
fn check_name(name: &str, found: Compression) -> Result<()> {
    match ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)) {
        Some((_, named)) if *named == found => Ok(()),
        _ => Err(bad(format!("{name} is compressed with {found}"))),
    }
}

fn read_members(bytes: &mut (impl Read + Send), name: &str) -> Result<BTreeMap<String, Member>> {
    let (compression, reader) = decompress(bytes).map_err(cut)?;
    check_name(name, compression)?;
    let bounded = Bounded { inner: reader, left: CONTROL_BYTES_MAX };
    let mut tar = hako_tar::Reader::new(io::BufReader::new(bounded));
    let broken = |e: &dyn std::fmt::Display| bad(format!("{name}: {e}"));
    let mut members = BTreeMap::new();
    while let Some(mut entry) = tar.next_entry().map_err(|e| broken(&e))? {
        let header = entry.header();
        let path = String::from_utf8_lossy(&header.path).into_owned();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        if header.kind == Kind::Directory && (path.is_empty() || path == ".") {
            continue;
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        let is_plain = !path.is_empty() && !path.starts_with('.') && path.bytes().all(plain);
        if header.kind != Kind::File || !is_plain {
            return Err(bad(format!("{name} has {path:?}, which is no plain file of its root")));
        }
        let mode = header.mode & 0o7777;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| broken(&e))?;
        if (path == "control" && bytes.len() > control::BYTES_MAX) || members.len() == MEMBERS_MAX {
            return Err(bad(format!("{name} is too large")));
        }
        if members.insert(path.clone(), Member { mode, bytes }).is_some() {
            return Err(bad(format!("{name} has {path:?} twice")));
        }
    }
    Ok(members)
}

/// Exactly so many bytes: fewer are an error.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.inner.read(&mut buffer[..max])?;
        if n == 0 && max > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the package ends too early"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// No more than so many bytes: one more is an error.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "it is too large");
        self.left = self.left.checked_sub(n as u64).ok_or_else(too_large)?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
