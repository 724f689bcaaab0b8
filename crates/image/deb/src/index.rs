//! An index of packages in short: what choosing needs, and nothing else.
//!
//! Debian's `Packages` has 46 MB and 63,000 paragraphs. It is read once, paragraph by paragraph, and
//! becomes a line for each package, which is kept in the cache under the digest of the file that it
//! was made of:
//!
//! ```text
//! hako-deb-index 1
//! name US provides US version US architecture US ... \n      one of each package (US is 0x1f)
//! #<sha256 of all lines above>\n
//! ```

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::Path,
};

use hako_layer::decompress;
use hako_oci::Digest;
use sha2::{Digest as _, Sha256};

use crate::{
    Error, MultiArch, Result,
    control::{is_architecture, is_package_name},
    deb822::{Paragraph, Paragraphs},
    sources,
    version::Version,
};

const HEADER: &str = "hako-deb-index 1";
const SEPARATOR: char = '\x1f';
/// An index in short; Ubuntu's `universe` has 25 MB.
const SHORT_BYTES_MAX: u64 = 512 << 20;
/// The largest package.
const PACKAGE_BYTES_MAX: u64 = 64 << 30;

/// What of a paragraph is kept, in the order of columns.
const COLUMNS: &[&str] = &[
    "Package",
    "Provides",
    "Version",
    "Architecture",
    "Multi-Arch",
    "Essential",
    "Priority",
    "Filename",
    "Size",
    "SHA256",
    "Pre-Depends",
    "Depends",
    "Recommends",
    "Conflicts",
    "Breaks",
];

const NAME: usize = 0;
const PROVIDES: usize = 1;
const VERSION: usize = 2;
const ARCHITECTURE: usize = 3;
const MULTI_ARCH: usize = 4;
const ESSENTIAL: usize = 5;
const PRIORITY: usize = 6;
const FILENAME: usize = 7;
const SIZE: usize = 8;
const SHA256: usize = 9;
const PRE_DEPENDS: usize = 10;
const DEPENDS: usize = 11;
const RECOMMENDS: usize = 12;
const CONFLICTS: usize = 13;
const BREAKS: usize = 14;

/// A package of an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a>(&'a str);

impl<'a> Entry<'a> {
    fn column(self, n: usize) -> &'a str {
        self.0.split(SEPARATOR).nth(n).unwrap_or_default()
    }

    pub(crate) fn name(self) -> &'a str {
        self.column(NAME)
    }

    pub(crate) fn provides(self) -> &'a str {
        self.column(PROVIDES)
    }

    pub(crate) fn version(self) -> &'a str {
        self.column(VERSION)
    }

    pub(crate) fn architecture(self) -> &'a str {
        self.column(ARCHITECTURE)
    }

    pub(crate) fn multi_arch(self) -> MultiArch {
        MultiArch::of(Some(self.column(MULTI_ARCH)))
    }

    pub(crate) fn is_essential(self) -> bool {
        self.column(ESSENTIAL) == "yes"
    }

    pub(crate) fn priority(self) -> &'a str {
        self.column(PRIORITY)
    }

    pub(crate) fn filename(self) -> &'a str {
        self.column(FILENAME)
    }

    pub(crate) fn size(self) -> u64 {
        self.column(SIZE).parse().unwrap_or_default()
    }

    /// As the index has it, which was checked.
    pub(crate) fn sha256(self) -> &'a str {
        self.column(SHA256)
    }

    pub(crate) fn pre_depends(self) -> &'a str {
        self.column(PRE_DEPENDS)
    }

    pub(crate) fn depends(self) -> &'a str {
        self.column(DEPENDS)
    }

    pub(crate) fn recommends(self) -> &'a str {
        self.column(RECOMMENDS)
    }

    pub(crate) fn conflicts(self) -> &'a str {
        self.column(CONFLICTS)
    }

    pub(crate) fn breaks(self) -> &'a str {
        self.column(BREAKS)
    }
}

/// An index in memory.
#[derive(Debug)]
pub(crate) struct Index {
    text: String,
    /// Where lines begin, in the order of names.
    lines: Vec<u32>,
    /// What is provided, in the order of names: where the name is, its length, the line.
    provided: Vec<(u32, u32, u32)>,
}

impl Index {
    /// Makes a short index of a `Packages` file. Of other architectures nothing is kept.
    pub(crate) fn shorten(
        packages: impl Read + Send,
        bytes_max: u64,
        architecture: &str,
        out: &mut impl Write,
    ) -> Result<(), ShortenError> {
        let (_, reader) = decompress(packages)?;
        let mut reader =
            Paragraphs::new(BufReader::with_capacity(64 << 10, reader.take(bytes_max)));
        let mut out = Hashing { inner: BufWriter::new(out), hasher: Sha256::new() };
        writeln!(out, "{HEADER}")?;
        let mut paragraph = Paragraph::default();
        let mut line = String::new();
        let mut written = 0;
        while reader.read(&mut paragraph)? {
            let found = paragraph.get("Architecture").unwrap_or_default();
            if found != architecture && found != "all" {
                continue;
            }
            if let Err(why) = check(&paragraph) {
                let package = paragraph.get("Package").unwrap_or("?").chars().take(100).collect();
                return Err(ShortenError::Package { package, why });
            }
            line.clear();
            let mut columns: [&str; 15] = [""; COLUMNS.len()];
            for (name, value) in paragraph.fields() {
                if let Some(n) = COLUMNS.iter().position(|c| c.eq_ignore_ascii_case(name)) {
                    columns[n] = value;
                }
            }
            for (n, column) in columns.into_iter().enumerate() {
                if n > 0 {
                    line.push(SEPARATOR);
                }
                // Fields may go on in further lines, which mean nothing.
                line.extend(column.chars().map(|c| if c.is_control() { ' ' } else { c }));
            }
            line.push('\n');
            written += line.len() as u64;
            if written > SHORT_BYTES_MAX {
                return Err(ShortenError::TooLong);
            }
            out.write_all(line.as_bytes())?;
        }
        let mut rest = reader.into_inner().into_inner();
        if rest.limit() == 0 && rest.get_mut().read(&mut [0])? > 0 {
            return Err(ShortenError::TooLong);
        }
        let Hashing { mut inner, hasher } = out;
        let digest = Digest::from_sha256(hasher.finalize().into());
        writeln!(inner, "#{}", digest.hex())?;
        inner.flush()?;
        Ok(())
    }

    /// Reads a short index; `None` where it is not there, or is not what was written.
    pub(crate) fn load(path: &Path) -> Result<Option<Index>> {
        let bytes = match sources::read(path, SHORT_BYTES_MAX) {
            Err(Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge
                ) =>
            {
                return Ok(None);
            }
            bytes => bytes?,
        };
        Ok(Index::of(bytes))
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Option<Index> {
        let end = bytes.strip_suffix(b"\n")?.iter().rposition(|b| *b == b'\n')? + 1;
        let digest = Digest::from_sha256(Sha256::digest(&bytes[..end]).into());
        if bytes[end..] != *format!("#{}\n", digest.hex()).as_bytes() {
            return None;
        }
        let mut text = String::from_utf8(bytes).ok()?;
        text.truncate(end);
        let (mut lines, mut provided) = (Vec::new(), Vec::new());
        let mut at = text.strip_prefix(HEADER)?.starts_with('\n').then_some(HEADER.len() + 1)?;
        while at < text.len() {
            let start = u32::try_from(at).ok()?;
            let line = &text[at..];
            let (name, rest) = line.split_once(SEPARATOR)?;
            let (provides, rest) = rest.split_once(SEPARATOR)?;
            lines.push(start);
            let mut place = at + name.len() + 1;
            for item in provides.split(',') {
                let lead = item.len() - item.trim_start().len();
                let name =
                    item.trim_start().split([' ', '(', ':', '\t']).next().unwrap_or_default();
                if !name.is_empty() {
                    let from = u32::try_from(place + lead).ok()?;
                    provided.push((from, u32::try_from(name.len()).ok()?, start));
                }
                place += item.len() + 1;
            }
            at = text.len() - rest.len() + rest.find('\n')? + 1;
        }
        let mut index = Index { text, lines: Vec::new(), provided: Vec::new() };
        lines.sort_by_key(|line| index.entry(*line).name());
        provided.sort_by_key(|(from, length, _)| index.slice(*from, *length));
        index.lines = lines;
        index.provided = provided;
        Some(index)
    }

    /// An index of these paragraphs.
    #[cfg(test)]
    pub(crate) fn of_packages(packages: &str, architecture: &str) -> Index {
        let mut out = Vec::new();
        Index::shorten(packages.as_bytes(), 1 << 30, architecture, &mut out).unwrap();
        Index::of(out).unwrap()
    }

    /// How many packages there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    fn slice(&self, from: u32, length: u32) -> &str {
        &self.text[from as usize..(from + length) as usize]
    }

    fn entry(&self, line: u32) -> Entry<'_> {
        Entry(self.text[line as usize..].split('\n').next().unwrap_or_default())
    }

    /// All packages.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.lines.iter().map(|line| self.entry(*line))
    }

    /// The packages of this name.
    pub(crate) fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let start = self.lines.partition_point(|line| self.entry(*line).name() < name);
        let rest = &self.lines[start..];
        let end = rest.partition_point(|line| self.entry(*line).name() == name);
        rest[..end].iter().map(|line| self.entry(*line))
    }

    /// The packages that provide this name.
    pub(crate) fn providing<'a>(&'a self, name: &str) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let start =
            self.provided.partition_point(|(from, length, _)| self.slice(*from, *length) < name);
        let rest = &self.provided[start..];
        let end = rest.partition_point(|(from, length, _)| self.slice(*from, *length) == name);
        rest[..end].iter().map(|(.., line)| self.entry(*line))
    }
}

/// Why there is no short index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShortenError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Form(#[from] crate::Deb822Error),
    #[error("package {package}: {why}")]
    Package { package: String, why: String },
    #[error("it is longer than the release says")]
    TooLong,
}

/// What is checked once, so that it can be relied upon later.
fn check(paragraph: &Paragraph) -> Result<(), String> {
    let field = |name: &str| paragraph.get(name).ok_or_else(|| format!("it has no field {name}"));
    let name = field("Package")?;
    if !is_package_name(name) {
        return Err("that is no package's name".into());
    }
    if !is_architecture(field("Architecture")?) {
        return Err("its architecture is none".into());
    }
    field("Version")?.parse::<Version>().map_err(|e| e.to_string())?;
    let size: Option<u64> = field("Size")?.parse().ok();
    if size.is_none_or(|size| size == 0 || size > PACKAGE_BYTES_MAX) {
        return Err("its size is none".into());
    }
    let hex = field("SHA256")?;
    if format!("sha256:{hex}").parse::<Digest>().is_err() {
        return Err("its SHA-256 digest is none".into());
    }
    match is_filename(field("Filename")?) {
        true => Ok(()),
        false => Err("its file's name leads out of the archive".into()),
    }
}

/// Whether a path stays below the archive's address, and is nothing but a path there.
pub(crate) fn is_filename(path: &str) -> bool {
    let parts = path.strip_prefix("./").unwrap_or(path).split('/');
    path.len() <= 1000
        && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\".contains(&b))
        && parts.clone().all(|part| !matches!(part, "" | "." | ".."))
}

struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Makes the short index of a file that is here.
pub(crate) fn shorten_file(
    path: &Path,
    bytes_max: u64,
    architecture: &str,
    out: &mut File,
) -> Result<(), ShortenError> {
    Index::shorten(File::open(path)?, bytes_max, architecture, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn paragraph(name: &str, more: &str) -> String {
        format!(
            "Package: {name}\nVersion: 1\nArchitecture: all\n{more}Filename: pool/{name}.deb\n\
             Size: 5\nSHA256: {HEX}\n\n"
        )
    }

    fn short(packages: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let done = Index::shorten(packages.as_bytes(), bytes_max, "amd64", &mut out);
        done.map_err(|e| e.to_string()).map(|()| out)
    }

    #[test]
    fn packages_are_found() {
        let text = paragraph("zsh", "")
            + &paragraph("mawk", "Provides: awk, nawk (= 1),\n x:any\nMulti-Arch: foreign\n")
            + &paragraph("a", "Provides: awk\n")
            + "Package: other\nArchitecture: arm64\n\n";
        let bytes = short(&text, 1 << 20).unwrap();
        let index = Index::of(bytes.clone()).unwrap();
        assert_eq!(index.entries().map(Entry::name).collect::<Vec<_>>(), ["a", "mawk", "zsh"]);
        let provided = |name: &str| index.providing(name).map(Entry::name).collect::<Vec<_>>();
        assert_eq!(provided("awk").len(), 2);
        assert_eq!(provided("nawk"), ["mawk"]);
        assert_eq!(provided("x"), ["mawk"]);
        assert!(provided("aw").is_empty() && provided("b").is_empty());
        let mawk = index.named("mawk").next().unwrap();
        assert_eq!((mawk.size(), mawk.sha256(), mawk.filename()), (5, HEX, "pool/mawk.deb"));
        assert_eq!(mawk.multi_arch(), MultiArch::Foreign);
        assert_eq!(index.named("maw").count() + index.named("mawk2").count(), 0);
        // A byte that fell over is found.
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Index::of(broken).is_none(), "{at}");
        }
        assert_eq!(Index::of(short("", 0).unwrap()).unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_index() {
        let good = paragraph("a", "");
        let cases = [
            (good.replace("pool/", "../"), "leads out"),
            (good.replace("pool/", "/"), "leads out"),
            (good.replace("pool/", "a//b"), "leads out"),
            (good.replace("pool/a", "pool/a?b"), "leads out"),
            (good.replace("Size: 5", "Size: -5"), "size is none"),
            (good.replace(HEX, "00"), "digest is none"),
            (good.replace("SHA256", "MD5sum"), "no field SHA256"),
            (good.replace("Package: a", "Package: ../a"), "no package's name"),
            (good.replace("Version: 1", "Version: 1/2"), "no version"),
            (good.repeat(100), "longer than the release says"),
        ];
        for (text, want) in cases {
            let error = short(&text, 1000).unwrap_err();
            assert!(error.contains(want), "{want}: {error}");
        }
    }
}
