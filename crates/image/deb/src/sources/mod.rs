//! Where packages come from: archives, their suites and components, and whom to believe.
//!
//! | module | subject |
//! |---|---|
//! | `one_line` | `deb [signed-by=...] http://... bookworm main` |
//! | `machine` | apt's files on this machine |
//! | `settings` | what `apt-config` says |

mod machine;
mod one_line;
mod settings;

use std::path::{Path, PathBuf};

use crate::{Error, Keyring, Result, control::is_architecture, deb822::Paragraph};

pub(crate) use machine::files_in;
pub use settings::Settings;

/// The longest file that is read as a keyring.
pub(crate) const KEYRING_BYTES_MAX: u64 = 16 << 20;

/// One suite of one archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Its address, without a slash at the end: `http`, `https`, `file` or `copy`.
    pub uri: String,
    /// As `bookworm-security`.
    pub suite: String,
    /// As `main`.
    pub components: Vec<String>,
    /// Only these architectures, in Debian's words; all where there is none.
    pub architectures: Vec<String>,
    /// Who may have signed it; the machine's keyrings where nobody is named.
    pub signed_by: Vec<SignedBy>,
    /// Whether it is taken unsigned.
    pub trusted: bool,
    /// Whether a release that has expired is refused; the machine's setting where it is not said.
    pub check_valid_until: Option<bool>,
    /// Whether a release of the future is refused; the machine's setting where it is not said.
    pub check_date: Option<bool>,
    /// Whether indexes are asked for by their digest; as the release says where it is not said.
    pub by_hash: Option<bool>,
}

/// Who may have signed an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    /// The keys of this file.
    File(PathBuf),
    /// The key with this fingerprint, of the machine's keyrings.
    Fingerprint(String),
    /// This armored key.
    Key(String),
}

/// All sources of a suite and of what belongs to it, and how they are to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The suite that was asked for.
    pub suite: String,
    /// The sources, in the order of configuration.
    pub sources: Vec<Source>,
    /// Keyrings for sources that name none.
    pub keyrings: Vec<PathBuf>,
    /// How the machine wants archives to be asked.
    pub settings: Settings,
}

/// What comes behind the name of a suite and still belongs to it: `bookworm-security`.
const FAMILY: &[&str] = &["-security", "-updates", "-backports", "-proposed", "-lts", "/updates"];

impl Sources {
    /// What apt's files below `root` say of a suite, with its updates and security fixes.
    pub fn of_machine(root: &Path, suite: &str, settings: Settings) -> Result<Sources> {
        let all = machine::read_sources(root)?;
        let in_family = |source: &&Source| {
            let rest = source.suite.strip_prefix(suite);
            rest.is_some_and(|rest| rest.is_empty() || FAMILY.iter().any(|f| rest.starts_with(f)))
        };
        let sources: Vec<Source> = all.iter().filter(in_family).cloned().collect();
        if !sources.iter().any(|source| source.suite == suite) {
            let mut known: Vec<String> = all.into_iter().map(|source| source.suite).collect();
            known.sort();
            known.dedup();
            return Err(Error::NoSuite { suite: suite.into(), known });
        }
        Ok(Sources { suite: suite.into(), sources, keyrings: keyrings(root)?, settings })
    }

    /// Sources that were given: `suites` at each of the mirrors, the first of them the one that is
    /// asked for.
    pub fn given(given: &Given, settings: Settings) -> Result<Sources> {
        let Some(suite) = given.suites.first() else {
            return Err(Error::NoSuite { suite: String::new(), known: Vec::new() });
        };
        let mut sources = Vec::new();
        for mirror in &given.mirrors {
            for suite in &given.suites {
                let source = Source {
                    uri: clean_uri(mirror)?,
                    suite: clean_path(suite)?,
                    components: given.components.clone(),
                    signed_by: given.keyrings.iter().cloned().map(SignedBy::File).collect(),
                    trusted: given.trusted,
                    ..Source::default()
                };
                source.check()?;
                sources.push(source);
            }
        }
        let suite = suite.clone();
        Ok(Sources { suite, sources, keyrings: keyrings(Path::new("/"))?, settings })
    }

    /// The certificates that are believed for a source.
    pub(crate) fn keyring(&self, source: &Source) -> Result<Keyring> {
        let mut keyring = Keyring::default();
        let mut fingerprints = Vec::new();
        let mut files: Vec<&Path> = Vec::new();
        for by in &source.signed_by {
            match by {
                SignedBy::File(path) => files.push(path),
                SignedBy::Fingerprint(fingerprint) => fingerprints.push(fingerprint.clone()),
                SignedBy::Key(armored) => {
                    let wrong = |why| Error::Keyring { path: "Signed-By".into(), why };
                    keyring.add(armored.as_bytes()).map_err(wrong)?;
                }
            }
        }
        for path in files {
            let bytes = read(path, KEYRING_BYTES_MAX)?;
            keyring.add(&bytes).map_err(|why| Error::Keyring { path: path.into(), why })?;
        }
        if source.signed_by.is_empty() || !fingerprints.is_empty() {
            // What nobody named may be of kinds that nothing reads any more, as apt has it too.
            let readable = self.keyrings.iter().filter_map(|p| read(p, KEYRING_BYTES_MAX).ok());
            for bytes in readable {
                keyring.add(&bytes).ok();
            }
        }
        if !fingerprints.is_empty() {
            keyring.retain(&fingerprints);
        }
        Ok(keyring)
    }
}

/// Sources as a person gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Addresses of archives.
    pub mirrors: Vec<String>,
    /// The suite, and others that belong to it.
    pub suites: Vec<String>,
    /// As `main`.
    pub components: Vec<String>,
    /// Who may have signed it; the machine's keyrings where there is none.
    pub keyrings: Vec<PathBuf>,
    /// Whether it is taken unsigned.
    pub trusted: bool,
}

impl Source {
    /// Takes an option by its name in one-line sources, of which those of paragraphs are other
    /// spellings. Options that say nothing about packages are taken for nothing.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let words = || value.split([',', ' ', '\t', '\n']).filter(|w| !w.is_empty());
        match name {
            "arch" => self.architectures = words().map(str::to_owned).collect(),
            "arch+" => self.architectures.extend(words().map(str::to_owned)),
            "arch-" => self.architectures.retain(|a| !words().any(|w| w == a)),
            "signed-by" => self.signed_by = signed_by(value)?,
            "trusted" => self.trusted = is_yes(value)?,
            "check-valid-until" => self.check_valid_until = Some(is_yes(value)?),
            "check-date" => self.check_date = Some(is_yes(value)?),
            "by-hash" => self.by_hash = Some(value.eq_ignore_ascii_case("force") || is_yes(value)?),
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let bad = |what: &str, text: &str| Error::Source { line: text.into(), why: what.into() };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._/".contains(&b);
        if let Some(odd) = self
            .components
            .iter()
            .find(|c| !c.bytes().all(plain) || c.split('/').any(|p| p == ".."))
        {
            return Err(bad("it has a component that is none", odd));
        }
        if self.components.is_empty() {
            return Err(bad("it has no components", &format!("{} {}", self.uri, self.suite)));
        }
        match self.architectures.iter().find(|a| !is_architecture(a)) {
            Some(odd) => Err(bad("it has an architecture that is none", odd)),
            None => Ok(()),
        }
    }
}

/// A source of a `.sources` paragraph, or rather all that it means.
fn of_paragraph(paragraph: &Paragraph) -> Result<Vec<Source>> {
    const FIELDS: &[(&str, &str)] = &[
        ("Architectures", "arch"),
        ("Signed-By", "signed-by"),
        ("Trusted", "trusted"),
        ("Check-Valid-Until", "check-valid-until"),
        ("Check-Date", "check-date"),
        ("By-Hash", "by-hash"),
    ];
    let words = |name: &str| -> Vec<&str> {
        paragraph.get(name).unwrap_or_default().split_ascii_whitespace().collect()
    };
    let wrong = |why: String| Error::Source { line: words("URIs").join(" "), why };
    if paragraph.get("Enabled").is_some_and(|v| is_yes(v) == Ok(false)) {
        return Ok(Vec::new());
    }
    if !words("Types").contains(&"deb") {
        return Ok(Vec::new());
    }
    let components = words("Components").iter().map(|c| (*c).to_owned()).collect();
    let mut model = Source { components, ..Source::default() };
    for (field, option) in FIELDS {
        if let Some(value) = paragraph.get(field) {
            model.set(option, value).map_err(wrong)?;
        }
    }
    let mut sources = Vec::new();
    for uri in words("URIs") {
        for suite in words("Suites") {
            // A path instead of a suite: an archive without suites, which is nobody's.
            if suite.ends_with('/') {
                continue;
            }
            let (uri, suite) = (clean_uri(uri)?, clean_path(suite)?);
            let source = Source { uri, suite, ..model.clone() };
            source.check()?;
            sources.push(source);
        }
    }
    Ok(sources)
}

/// For the fuzzer: sources of either form.
pub(crate) fn read_text(text: &str) {
    let lines = text.lines().filter_map(|line| one_line::parse(line).ok().flatten());
    let paragraphs = crate::deb822::paragraphs(text.as_bytes(), true).unwrap_or_default();
    let written = paragraphs.iter().filter_map(|p| of_paragraph(p).ok()).flatten();
    for source in lines.chain(written) {
        assert!(!source.suite.split('/').any(|part| part == ".."));
        assert!(!source.uri.is_empty() && !source.components.is_empty());
    }
}

/// The words of apt for yes and no.
fn is_yes(value: &str) -> Result<bool, String> {
    const YES: &[&str] = &["yes", "true", "with", "on", "enable", "1"];
    const NO: &[&str] = &["no", "false", "without", "off", "disable", "0"];
    let is = |words: &[&str]| words.iter().any(|word| value.trim().eq_ignore_ascii_case(word));
    match (is(YES), is(NO)) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(format!("{value:?} is neither yes nor no")),
    }
}

/// Files, fingerprints, or a whole armored key, whose lines are those of a field.
fn signed_by(value: &str) -> Result<Vec<SignedBy>, String> {
    if value.contains("-----BEGIN PGP") {
        let line = |line: &str| match line.strip_prefix([' ', '\t']).unwrap_or(line) {
            "." => "\n".to_owned(),
            line => format!("{line}\n"),
        };
        return Ok(vec![SignedBy::Key(value.lines().map(line).collect())]);
    }
    let one = |word: &str| {
        let fingerprint = word.trim_end_matches('!');
        let is_hex = fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
        match word.starts_with('/') {
            true => Ok(SignedBy::File(word.into())),
            false if is_hex && matches!(fingerprint.len(), 16 | 40) => {
                Ok(SignedBy::Fingerprint(fingerprint.to_ascii_uppercase()))
            }
            false => Err(format!("{word:?} is neither a keyring's path nor a fingerprint")),
        }
    };
    value.split([',', ' ', '\t', '\n']).filter(|w| !w.is_empty()).map(one).collect()
}

/// An address without its last slashes, of a kind that apt's own methods have.
fn clean_uri(text: &str) -> Result<String> {
    let text = text.trim_end_matches('/');
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    let known = ["http://", "https://", "file:/", "copy:/"];
    match plain && known.iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(text.to_owned()),
        // Another method of apt's: `--fetch apt` knows it.
        false if plain && text.contains(':') => Ok(text.to_owned()),
        false => Err(Error::Source { line: text.into(), why: "it has no address".into() }),
    }
}

fn clean_path(text: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._~/".contains(&b);
    let ok = !text.is_empty()
        && text.bytes().all(plain)
        && !text.starts_with('/')
        && !text.split('/').any(|part| part == "..");
    match ok {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(Error::Source { line: text.into(), why: "that is no suite's name".into() }),
    }
}

/// The keyrings that apt believes where a source names none, and those of distributions.
fn keyrings(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let single = root.join("etc/apt/trusted.gpg");
    // apt makes an empty one.
    if std::fs::metadata(&single).is_ok_and(|m| m.len() > 0) {
        found.push(single);
    }
    let dirs: &[(&str, &[&str])] = &[
        ("etc/apt/trusted.gpg.d", &[".gpg", ".asc", ".pgp"]),
        ("usr/share/keyrings", &["-archive-keyring.gpg", "-archive-keyring.pgp"]),
    ];
    for (dir, endings) in dirs {
        found.extend(machine::files_in(&root.join(dir), endings)?);
    }
    Ok(found)
}

/// A file of no more than so many bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    match bytes.len() as u64 > bytes_max {
        true => Err(Error::io("read", path, std::io::ErrorKind::FileTooLarge.into())),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
