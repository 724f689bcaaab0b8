//! The control file of a binary package.

use crate::{
    Error, Result, Version,
    deb822::{self, Paragraph},
};

/// The longest control file.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// How a package goes with packages of other architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MultiArch {
    /// It satisfies its own architecture's dependencies only.
    #[default]
    No,
    /// It can be there once for each architecture.
    Same,
    /// It satisfies dependencies of any architecture.
    Foreign,
    /// It does where the other says `:any`.
    Allowed,
}

impl MultiArch {
    const TABLE: &[(&str, MultiArch)] = &[
        ("no", MultiArch::No),
        ("same", MultiArch::Same),
        ("foreign", MultiArch::Foreign),
        ("allowed", MultiArch::Allowed),
    ];

    pub(crate) fn of(field: Option<&str>) -> MultiArch {
        let known = |name| MultiArch::TABLE.iter().find(|(text, _)| *text == name);
        field.and_then(known).map(|(_, multi_arch)| *multi_arch).unwrap_or_default()
    }
}

/// A package's control file: its bytes as they came, and its fields.
///
/// Name, version and architecture have only characters that are safe in file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    paragraph: Paragraph,
    version: Version,
}

impl Control {
    /// Reads a control file, which has one paragraph.
    pub fn parse(bytes: &[u8]) -> Result<Control> {
        let bad = |why: String| Error::Control { package: "?".into(), why };
        if bytes.len() > BYTES_MAX {
            return Err(bad(format!("it is longer than {BYTES_MAX} bytes")));
        }
        let mut all = deb822::paragraphs(bytes, false).map_err(|e| bad(e.to_string()))?;
        let paragraph = match (all.pop(), all.is_empty()) {
            (Some(paragraph), true) => paragraph,
            (None, _) => return Err(bad("it is empty".into())),
            (Some(_), false) => return Err(bad("it has several paragraphs".into())),
        };
        let field =
            |name: &str| paragraph.get(name).ok_or_else(|| bad(format!("it has no field {name}")));
        let package = field("Package")?;
        if !is_package_name(package) {
            return Err(bad(format!("{package:?} is no package's name")));
        }
        let bad = |why: String| Error::Control { package: package.into(), why };
        let architecture = field("Architecture")?;
        if !is_architecture(architecture) {
            return Err(bad(format!("{architecture:?} is no architecture")));
        }
        let version = field("Version")?.parse().map_err(|e| bad(format!("{e}")))?;
        Ok(Control { paragraph, version })
    }

    /// The package's name.
    pub fn package(&self) -> &str {
        self.get("Package").unwrap_or_default()
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Its architecture, in Debian's words; `all` where it goes with any.
    pub fn architecture(&self) -> &str {
        self.get("Architecture").unwrap_or_default()
    }

    /// A field, its further lines as they are.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.paragraph.get(field)
    }

    /// All fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.paragraph.fields()
    }

    /// The paragraph as it was.
    pub fn bytes(&self) -> &[u8] {
        self.paragraph.text().as_bytes()
    }

    /// Whether no system may be without it.
    pub fn is_essential(&self) -> bool {
        self.get("Essential") == Some("yes")
    }

    /// How it goes with other architectures.
    pub fn multi_arch(&self) -> MultiArch {
        MultiArch::of(self.get("Multi-Arch"))
    }

    /// What its files in dpkg's database are called before their ending.
    pub fn info_name(&self) -> String {
        match self.multi_arch() {
            MultiArch::Same => format!("{}:{}", self.package(), self.architecture()),
            _ => self.package().to_owned(),
        }
    }
}

/// Debian Policy 5.6.1, as lenient as dpkg is with length and capitals.
pub(crate) fn is_package_name(name: &str) -> bool {
    name.len() <= 200
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

pub(crate) fn is_architecture(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files() {
        let good =
            "Package: libc6\nVersion: 2.36-9\nArchitecture: amd64\nMulti-Arch: same\nX-Own: 1\n";
        let control = Control::parse(good.as_bytes()).unwrap();
        assert_eq!(control.bytes(), good.as_bytes());
        assert_eq!(control.info_name(), "libc6:amd64");
        assert_eq!(control.get("x-own"), Some("1"));
        let cases = [
            ("", "it is empty"),
            ("Package: a\n\nPackage: b\n", "several paragraphs"),
            ("Version: 1\n", "no field Package"),
            ("Package: ../a\nVersion: 1\nArchitecture: all\n", "no package's name"),
            ("Package: a\nVersion: 1/2\nArchitecture: all\n", "no version"),
            ("Package: a\nVersion: 1\nArchitecture: a/b\n", "no architecture"),
        ];
        for (text, want) in cases {
            let error = Control::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
