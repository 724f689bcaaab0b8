//! Lock files: a selection that can be had again, today and elsewhere.
//!
//! JSON, because people look at it and tools change it; one line for each package, so that a
//! comparison of two versions reads well. The same selection gives the same bytes.

use hako_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Origin, Result, Selected, Selection,
    control::{is_architecture, is_package_name},
    index::is_filename,
};

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// A lock that is longer is none.
const BYTES_MAX: usize = 64 << 20;
const PACKAGES_MAX: usize = 100_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    suite: String,
    architecture: String,
    sources: Vec<Source>,
    packages: Vec<Package>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    uri: String,
    suite: String,
    components: Vec<String>,
    /// Of the text that was signed.
    release: Digest,
    date: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    version: String,
    architecture: String,
    source: usize,
    filename: String,
    size: u64,
    digest: Digest,
    #[serde(default, skip_serializing_if = "is_false")]
    asked: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    essential: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    priority: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requires: Vec<usize>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Selection {
    /// The lock file of this selection.
    pub fn to_lock(&self) -> Result<Vec<u8>> {
        let file = File {
            version: VERSION,
            suite: self.suite.clone(),
            architecture: self.architecture.clone(),
            sources: self.origins.iter().map(to_source).collect(),
            packages: self.packages.iter().map(to_package).collect(),
        };
        let broken = |e: serde_json::Error| Error::Lock(e.to_string());
        let mut text = String::from("{\n");
        let quoted = |value: &str| serde_json::to_string(value).map_err(broken);
        text += &format!(" \"version\": {VERSION},\n \"suite\": {},\n", quoted(&file.suite)?);
        text += &format!(" \"architecture\": {},\n", quoted(&file.architecture)?);
        let sources: Result<Vec<String>, _> =
            file.sources.iter().map(serde_json::to_string).collect();
        let packages: Result<Vec<String>, _> =
            file.packages.iter().map(serde_json::to_string).collect();
        for (name, rows, end) in [
            ("sources", sources.map_err(broken)?, ",\n"),
            ("packages", packages.map_err(broken)?, "\n}\n"),
        ] {
            text += &format!(" \"{name}\": [\n  {}\n ]{end}", rows.join(",\n  "));
        }
        Ok(text.into_bytes())
    }

    /// The selection of a lock file, which is checked as foreign bytes are.
    pub fn from_lock(bytes: &[u8]) -> Result<Selection> {
        let bad = |why: String| Error::Lock(why);
        if bytes.len() > BYTES_MAX {
            return Err(bad(format!("it is longer than {BYTES_MAX} bytes")));
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        if version != VERSION {
            return Err(bad(format!("it is of version {version}, want {VERSION}")));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        let count = file.packages.len();
        if count > PACKAGES_MAX {
            return Err(bad(format!("it has {count} packages")));
        }
        let origins: Vec<Origin> = file.sources.into_iter().map(of_source).collect();
        let mut packages = Vec::with_capacity(count);
        for (n, package) in file.packages.into_iter().enumerate() {
            packages.push(of_package(package, origins.len(), count, n)?);
        }
        let mut names: Vec<&str> = packages.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(bad(format!("it has {} twice", twice[0])));
        }
        if !is_architecture(&file.architecture) {
            return Err(bad(format!("{:?} is no architecture", file.architecture)));
        }
        let architecture = file.architecture;
        Ok(Selection { suite: file.suite, architecture, origins, packages })
    }
}

fn to_source(origin: &Origin) -> Source {
    let Origin { uri, suite, components, release, date } = origin.clone();
    Source { uri, suite, components, release, date }
}

fn of_source(source: Source) -> Origin {
    let Source { uri, suite, components, release, date } = source;
    Origin { uri: uri.trim_end_matches('/').to_owned(), suite, components, release, date }
}

fn to_package(selected: &Selected) -> Package {
    let s = selected.clone();
    Package {
        name: s.name,
        version: s.version.as_str().to_owned(),
        architecture: s.architecture,
        source: s.origin,
        filename: s.filename,
        size: s.size,
        digest: s.digest,
        asked: s.asked,
        essential: s.essential,
        priority: s.priority,
        requires: s.requires,
    }
}

fn of_package(package: Package, sources: usize, count: usize, n: usize) -> Result<Selected> {
    let Package { name, version, architecture, source, filename, size, digest, .. } = package;
    let bad = |why: String| Error::Lock(format!("package {name:?}: {why}"));
    let checks = [
        (is_package_name(&name), "that is no package's name"),
        (is_architecture(&architecture), "its architecture is none"),
        (is_filename(&filename), "its file's name leads out of the archive"),
        (source < sources, "its source is not in the list"),
        (digest.algorithm() == hako_oci::Algorithm::Sha256, "its digest is no SHA-256"),
        (package.requires.iter().all(|m| *m < count && *m != n), "what it requires is not there"),
    ];
    if let Some((_, why)) = checks.iter().find(|(ok, _)| !ok) {
        return Err(bad((*why).to_owned()));
    }
    let version = version.parse().map_err(|e| bad(format!("{e}")))?;
    Ok(Selected {
        name,
        version,
        architecture,
        origin: source,
        filename,
        size,
        digest,
        asked: package.asked,
        essential: package.essential,
        priority: package.priority,
        requires: package.requires,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection() -> Selection {
        let package = |name: &str, requires: &[usize]| Selected {
            name: name.into(),
            version: "1:2.0~rc1-3".parse().unwrap(),
            architecture: "all".into(),
            origin: 0,
            filename: format!("pool/{name}_2.0~rc1-3_all.deb"),
            size: 5,
            digest: Digest::sha256(name.as_bytes()),
            asked: name == "a",
            essential: false,
            priority: "optional".into(),
            requires: requires.to_vec(),
        };
        Selection {
            suite: "bookworm".into(),
            architecture: "amd64".into(),
            origins: vec![Origin {
                uri: "http://a.example/debian".into(),
                suite: "bookworm".into(),
                components: vec!["main".into()],
                release: Digest::sha256(b""),
                date: 1_686_387_213,
            }],
            packages: vec![package("b", &[]), package("a", &[0])],
        }
    }

    #[test]
    fn a_lock_says_all_that_was_selected() {
        let lock = selection().to_lock().unwrap();
        assert_eq!(Selection::from_lock(&lock).unwrap(), selection());
        assert_eq!(String::from_utf8(lock).unwrap().lines().count(), 12);
    }

    #[test]
    fn what_is_no_lock() {
        let good = String::from_utf8(selection().to_lock().unwrap()).unwrap();
        let cases = [
            (good.replace("\"version\": 1", "\"version\": 2"), "of version 2"),
            (good.replace("pool/a", "../a"), "leads out"),
            (good.replace("pool/a", "http://x/a"), "leads out"),
            (good.replace("\"name\":\"a\"", "\"name\":\"../a\""), "no package's name"),
            (good.replace("\"name\":\"a\"", "\"name\":\"b\""), "it has b twice"),
            (good.replace("\"source\":0", "\"source\":1"), "not in the list"),
            (good.replace("\"requires\":[0]", "\"requires\":[1]"), "not there"),
            (good.replace("\"size\":5", "\"size\":-5"), "-5"),
            (good.replace("1:2.0~rc1-3", "1/2"), "no version"),
            (good.replace("\"suite\": ", "\"sweet\": "), "sweet"),
            (good.replace("sha256:", "sha256:0"), "digest"),
            (good[..good.len() / 2].to_owned(), "EOF"),
            (String::new(), "EOF"),
        ];
        for (text, want) in cases {
            let error = Selection::from_lock(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{want}: {error}");
        }
    }
}
