//! Platforms: operating system and processor of an image
//! (OCI Image Specification, image-index.md, `platform`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::null_default;

/// What an image runs on, in Go's words (`linux`, `amd64`, `arm64` ...).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Platform {
    /// Processor.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Processor variant, as `v8` of `arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system version (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Operating system features (Windows).
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A string is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?}: want os/arch[/variant], as linux/amd64")]
pub struct Error(String);

impl Platform {
    /// A platform without variant.
    pub fn new(os: &str, architecture: &str) -> Platform {
        Platform {
            architecture: architecture.into(),
            os: os.into(),
            variant: None,
            os_version: None,
            os_features: Vec::new(),
            extra: Map::new(),
        }
    }

    /// The platform this program was built for.
    pub fn host() -> Platform {
        Platform::new("linux", normalized_architecture(std::env::consts::ARCH))
    }

    /// Whether an image for `self` is what somebody who wants `wanted` means: the same system and
    /// processor, and the same variant where both name one.
    pub fn matches(&self, wanted: &Platform) -> bool {
        let same_variant = match (&self.variant, &wanted.variant) {
            (Some(a), Some(b)) => a == b,
            (Some(a), None) => is_base_variant(&self.architecture, a),
            (None, Some(b)) => is_base_variant(&self.architecture, b),
            (None, None) => true,
        };
        self.os == wanted.os
            && normalized_architecture(&self.architecture)
                == normalized_architecture(&wanted.architecture)
            && same_variant
    }
}

/// The variant that an architecture without one means.
fn is_base_variant(architecture: &str, variant: &str) -> bool {
    matches!(
        (normalized_architecture(architecture), variant),
        ("arm64", "v8") | ("arm", "v7") | ("amd64", "v1")
    )
}

/// Go's word for a processor, from Go's, Rust's or the kernel's.
pub fn normalized_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" | "x86" => "386",
        "armhf" | "armel" => "arm",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(s: &str) -> Result<Platform, Error> {
        let parts: Vec<&str> = s.split('/').collect();
        let plain = |p: &&str| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(plain) {
            return Err(Error(s.into()));
        }
        let mut platform = Platform::new(parts[0], normalized_architecture(parts[1]));
        platform.variant = parts.get(2).map(|v| v.to_string());
        Ok(platform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(v) => write!(f, "/{v}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_match_where_they_mean_the_same() {
        let p = |s: &str| s.parse::<Platform>().unwrap();
        assert!(p("linux/arm64/v8").matches(&p("linux/arm64")));
        assert!(p("linux/aarch64").matches(&p("linux/arm64/v8")));
        assert!(!p("linux/arm/v6").matches(&p("linux/arm/v7")));
        assert!(!p("linux/arm/v6").matches(&p("linux/arm")));
        assert!(!p("windows/amd64").matches(&p("linux/amd64")));
        assert!("linux".parse::<Platform>().is_err());
        assert!("linux//v8".parse::<Platform>().is_err());
    }
}
