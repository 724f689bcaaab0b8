//! What was selected: packages and where they come from.

use std::{fmt, str::FromStr};

use hako_oci::Digest;

use crate::{Version, control::is_package_name, version::VersionError};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Packages that are wanted, with all that they need.
    pub include: Vec<Wanted>,
    /// What is there without being asked for.
    pub base: Base,
    /// Whether to take what packages recommend.
    pub recommends: bool,
}

/// What an image is made upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Nothing: what packages need by their own words is all there is.
    Nothing,
    /// Packages that say `Essential: yes`, and what these need: what others may rely on unsaid.
    Essential,
    /// Those, and all of priority `required`.
    Required,
}

/// A package that is asked for: `python3`, or `python3=3.11.2-1+b1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, or that of a virtual package.
    pub name: String,
    /// No version but this.
    pub version: Option<Version>,
}

/// Why a text asks for no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// It names none.
    #[error("{0:?} is no package's name")]
    Name(String),
    /// It has no version behind its `=`.
    #[error(transparent)]
    Version(#[from] VersionError),
}

impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Wanted, WantedError> {
        let (name, version) = match text.split_once('=') {
            None => (text, None),
            Some((name, version)) => (name, Some(version.parse()?)),
        };
        match is_package_name(name) {
            true => Ok(Wanted { name: name.into(), version }),
            false => Err(WantedError::Name(name.into())),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.version.iter().try_for_each(|version| write!(f, "={version}"))
    }
}

/// Packages that go together, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The suite that was asked for.
    pub suite: String,
    /// In Debian's words.
    pub architecture: String,
    /// Where packages come from.
    pub origins: Vec<Origin>,
    /// In the order in which dpkg would configure them: what they need comes before them, except in
    /// circles, which begin with what nobody pre-depends on least.
    pub packages: Vec<Selected>,
}

impl Selection {
    /// When the youngest of its archives was made, in seconds since 1970: the date of what is made
    /// of this selection, and the same whenever that is done.
    pub fn date(&self) -> i64 {
        self.origins.iter().map(|origin| origin.date).max().unwrap_or_default()
    }
}

/// A part of an archive: one suite at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its address, without a slash at the end.
    pub uri: String,
    /// As `bookworm-security`.
    pub suite: String,
    /// As `main`.
    pub components: Vec<String>,
    /// Of the signed `Release` file.
    pub release: Digest,
    /// Its `Date`, in seconds since 1970.
    pub date: i64,
}

/// A package that was selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// In Debian's words; `all` where it goes with any.
    pub architecture: String,
    /// Which of the selection's origins has it.
    pub origin: usize,
    /// Where it is there, relative to the address.
    pub filename: String,
    /// Of the .deb, in bytes.
    pub size: u64,
    /// SHA-256 of the .deb.
    pub digest: Digest,
    /// Whether it was asked for by name; all others are there for somebody.
    pub asked: bool,
    /// Whether it says `Essential: yes`.
    pub essential: bool,
    /// Its priority, as `required` or `optional`.
    pub priority: String,
    /// What it needs: places in the list of packages, rising.
    pub requires: Vec<usize>,
}
