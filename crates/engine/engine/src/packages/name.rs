//! Names of images that are made of packages: `deb:bookworm/python3,ca-certificates`.
//!
//! ```text
//! deb[+VARIANT]:SUITE[/PACKAGE,...]
//! ```
//!
//! Such a name stands where any image's may. What was made of it is kept under a name of this
//! machine, `localhost/deb/bookworm:ca-certificates__python3`, and used again.

use std::{borrow::Cow, fmt, str::FromStr};

use hako_deb::Wanted;
use hako_oci::{Digest, Reference};

use super::Variant;

const SCHEME: &str = "deb";
/// Where images of such names are kept.
const REPOSITORY: &str = "localhost/deb";
/// As long as a tag may be.
const TAG_BYTES_MAX: usize = 128;
/// Packages that one name may ask for.
const PACKAGES_MAX: usize = 1000;

/// An image by the packages that are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagesName {
    /// As `bookworm`.
    pub suite: String,
    /// What kind of image; that which goes with `include` where absent.
    pub variant: Option<Variant>,
    /// Sorted, each once.
    pub include: Vec<Wanted>,
}

/// Why a text that begins as such a name is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is the name of something else.
    #[error("{0:?} is no name of packages, as deb:bookworm/python3")]
    Form(String),
    /// No such variant.
    #[error(transparent)]
    Variant(#[from] super::VariantError),
    /// No such package can be.
    #[error(transparent)]
    Package(#[from] hako_deb::WantedError),
    /// No such suite can be.
    #[error("{0:?} is no suite's name")]
    Suite(String),
}

impl PackagesName {
    /// Whether a text is meant as such a name.
    pub fn is_one(text: &str) -> bool {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        scheme.is_some_and(|s| s == SCHEME || s.strip_prefix("deb+").is_some())
    }

    /// What is made of it is called here.
    pub fn reference(&self) -> Reference {
        let variant = self.variant.filter(|v| *v != Variant::default_for(&self.include));
        let mut words: Vec<String> = variant.iter().map(|v| format!("_{v}")).collect();
        // Tags have no `,`, `+`, `=`, `:` and `~`; no package's name has a `_`.
        let escape = |wanted: &Wanted| {
            let text = wanted.to_string();
            text.replace('+', "_p").replace('=', "_v").replace(':', "_e").replace('~', "_t")
        };
        words.extend(self.include.iter().map(escape));
        let mut tag = words.join("__");
        if tag.is_empty() {
            tag = Variant::default_for(&[]).to_string();
        }
        if tag.len() > TAG_BYTES_MAX {
            tag = Digest::sha256(tag.as_bytes()).hex().to_owned();
        }
        let repository = format!("{REPOSITORY}/{}", self.suite.to_lowercase());
        let tagged = repository.parse::<Reference>().and_then(|name| name.with_tag(&tag));
        // Whatever a suite is called, there is a name for it.
        tagged.unwrap_or_else(|_| fallback(&format!("{repository}:{tag}")))
    }
}

/// The name under which the store has what `word` means: that of what was made of it, for a name
/// of packages.
pub(crate) fn stored(word: &str) -> Result<Cow<'_, str>, NameError> {
    match PackagesName::is_one(word) {
        true => Ok(word.parse::<PackagesName>()?.reference().to_string().into()),
        false => Ok(word.into()),
    }
}

fn fallback(text: &str) -> Reference {
    let tag = Digest::sha256(text.as_bytes()).hex().to_owned();
    let name = REPOSITORY.parse::<Reference>().and_then(|name| name.with_tag(&tag));
    name.unwrap_or_else(|_| unreachable!("a fixed name and a digest"))
}

/// Whether a word may be a suite: `bookworm`, `stable-updates`, `24.04`.
pub(crate) fn is_suite(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    !word.is_empty() && word.len() <= 64 && word.bytes().all(plain) && !word.starts_with(['.', '-'])
}

impl FromStr for PackagesName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PackagesName, NameError> {
        let form = || NameError::Form(text.chars().take(200).collect());
        let (scheme, rest) = text.split_once(':').ok_or_else(form)?;
        let variant = match scheme.strip_prefix(SCHEME).ok_or_else(form)? {
            "" => None,
            variant => Some(variant.strip_prefix('+').ok_or_else(form)?.parse()?),
        };
        let (suite, packages) = match rest.split_once('/') {
            Some((suite, packages)) => (suite, packages),
            None => (rest, ""),
        };
        if !is_suite(suite) {
            return Err(NameError::Suite(suite.chars().take(200).collect()));
        }
        let words = packages.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut include = words.map(str::parse).collect::<Result<Vec<Wanted>, _>>()?;
        include.sort_by_key(ToString::to_string);
        include.dedup();
        if include.len() > PACKAGES_MAX || (include.is_empty() && rest.contains('/')) {
            return Err(form());
        }
        Ok(PackagesName { suite: suite.to_owned(), variant, include })
    }
}

impl fmt::Display for PackagesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        self.variant.iter().try_for_each(|variant| write!(f, "+{variant}"))?;
        write!(f, ":{}", self.suite)?;
        let words: Vec<String> = self.include.iter().map(ToString::to_string).collect();
        match words.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", words.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_under_names_of_images() {
        for (text, again, kept) in [
            ("deb:bookworm", "deb:bookworm", "localhost/deb/bookworm:minbase"),
            (
                "deb:bookworm/python3,ca-certificates",
                "deb:bookworm/ca-certificates,python3",
                "localhost/deb/bookworm:ca-certificates__python3",
            ),
            ("deb:sid/g++,g++", "deb:sid/g++", "localhost/deb/sid:g_p_p"),
            (
                "deb+minbase:bookworm/redis=5:7.0.15-1~deb12u1",
                "deb+minbase:bookworm/redis=5:7.0.15-1~deb12u1",
                "localhost/deb/bookworm:_minbase__redis_v5_e7.0.15-1_tdeb12u1",
            ),
            (
                "deb+distroless:bookworm/a1",
                "deb+distroless:bookworm/a1",
                "localhost/deb/bookworm:a1",
            ),
            ("deb+static:Stable", "deb+static:Stable", "localhost/deb/stable:_static"),
        ] {
            let name: PackagesName = text.parse().unwrap();
            assert_eq!(name.to_string(), again);
            assert_eq!(name.reference().to_string(), kept, "{text}");
        }
        let long =
            format!("deb:sid/{}", (0..30).map(|n| format!("pkg{n}")).collect::<Vec<_>>().join(","));
        assert_eq!(long.parse::<PackagesName>().unwrap().reference().tag().unwrap().len(), 64);
    }

    #[test]
    fn what_is_no_name_says_why() {
        for text in [
            "deb:",
            "deb:/a",
            "deb:bookworm/",
            "deb:bookworm/a b",
            "deb:book worm/aa",
            "debian:12",
            "deb+:a/aa",
            "deb+big:a/aa",
            "deb:../etc",
            "deb:a/aa=",
            "deb",
        ] {
            assert!(text.parse::<PackagesName>().is_err(), "{text}");
        }
        for (text, is) in [
            ("deb:a", true),
            ("deb+x:a", true),
            ("debian:12", false),
            ("deb", false),
            ("a/deb:1", false),
        ] {
            assert_eq!(PackagesName::is_one(text), is, "{text}");
        }
    }
}
