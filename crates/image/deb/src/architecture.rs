//! Debian's names of architectures.

use hako_oci::Platform;

use crate::{Error, Result};

/// A row: architecture and variant in Go's words, and Debian's name.
type Row = (&'static str, Option<&'static str>, &'static str);

/// The first that fits counts.
const TABLE: &[Row] = &[
    ("amd64", None, "amd64"),
    ("arm64", None, "arm64"),
    ("386", None, "i386"),
    ("arm", Some("v5"), "armel"),
    ("arm", Some("v6"), "armel"),
    ("arm", None, "armhf"),
    ("ppc64le", None, "ppc64el"),
    ("s390x", None, "s390x"),
    ("riscv64", None, "riscv64"),
    ("loong64", None, "loong64"),
    ("mips64le", None, "mips64el"),
    ("mipsle", None, "mipsel"),
];

/// What Debian calls a platform.
pub fn architecture_of(platform: &Platform) -> Result<&'static str> {
    let fits = |(architecture, variant, _): &&Row| {
        *architecture == platform.architecture
            && variant.is_none_or(|variant| Some(variant) == platform.variant.as_deref())
    };
    let found = TABLE.iter().find(fits).filter(|_| platform.os == "linux");
    found.map(|(.., debian)| *debian).ok_or_else(|| Error::NoArchitecture(platform.to_string()))
}

/// What an architecture of Debian is called in images.
pub fn platform_of(architecture: &str) -> Result<Platform> {
    let known = match architecture {
        "armhf" => Some("linux/arm/v7".to_owned()),
        _ => TABLE.iter().find(|(.., debian)| *debian == architecture).map(|(name, variant, _)| {
            match variant {
                None => format!("linux/{name}"),
                Some(variant) => format!("linux/{name}/{variant}"),
            }
        }),
    };
    let platform = known.and_then(|text| text.parse().ok());
    platform.ok_or_else(|| Error::NoArchitecture(architecture.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            ("linux/amd64", Some("amd64")),
            ("linux/arm64", Some("arm64")),
            ("linux/arm64/v8", Some("arm64")),
            ("linux/arm/v7", Some("armhf")),
            ("linux/arm/v5", Some("armel")),
            ("linux/386", Some("i386")),
            ("linux/ppc64le", Some("ppc64el")),
            ("linux/wasm", None),
            ("windows/amd64", None),
        ];
        for (text, want) in cases {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(architecture_of(&platform).ok(), want, "{text}");
            if let Some(want) = want {
                assert_eq!(architecture_of(&platform_of(want).unwrap()).unwrap(), want);
            }
        }
        assert!(platform_of("all").is_err());
    }
}
