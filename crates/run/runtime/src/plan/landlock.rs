//! Landlock, by an annotation: `io.hako.landlock` holds the `landlock` object that was proposed for
//! `process` (opencontainers/runtime-spec, pull request 1241), as JSON.
//!
//! ```json
//! {
//!   "ruleset": {"handledAccessFS": ["write_file", "make_reg"]},
//!   "rules": {"pathBeneath": [{"allowedAccess": ["write_file"], "paths": ["/data"]}]},
//!   "disableBestEffort": false
//! }
//! ```
//! Newer than the proposal, and named alike: `ruleset.handledAccessNet` (`bind_tcp`, `connect_tcp`)
//! with `rules.netPort` (`allowedAccess`, `ports`), and `ruleset.scoped` (`abstract_unix_socket`,
//! `signal`). Paths are the container's. With best effort, what the kernel does not know is left
//! out and warned of; without, it is an error.

use std::ffi::CString;

use hako_sys::landlock::Handled;
use serde::Deserialize;

use super::builder::{Builder, c_string};
use crate::op::Op;
use crate::{Error, Result};

/// The annotation's name.
pub(crate) const ANNOTATION: &str = "io.hako.landlock";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Document {
    ruleset: Ruleset,
    rules: Rules,
    disable_best_effort: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Ruleset {
    #[serde(rename = "handledAccessFS")]
    handled_access_fs: Vec<String>,
    handled_access_net: Vec<String>,
    scoped: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Rules {
    path_beneath: Vec<PathBeneath>,
    net_port: Vec<NetPort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathBeneath {
    allowed_access: Vec<String>,
    paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NetPort {
    allowed_access: Vec<String>,
    ports: Vec<u16>,
}

/// Words, the version of Landlock that each came with, by the number of their bit.
type Words = &'static [(&'static str, u32)];

const FS: Words = &[
    ("execute", 1),
    ("write_file", 1),
    ("read_file", 1),
    ("read_dir", 1),
    ("remove_dir", 1),
    ("remove_file", 1),
    ("make_char", 1),
    ("make_dir", 1),
    ("make_reg", 1),
    ("make_sock", 1),
    ("make_fifo", 1),
    ("make_block", 1),
    ("make_sym", 1),
    ("refer", 2),
    ("truncate", 3),
    ("ioctl_dev", 5),
];
const NET: Words = &[("bind_tcp", 4), ("connect_tcp", 4)];
const SCOPED: Words = &[("abstract_unix_socket", 6), ("signal", 6)];

/// Rights that a rule can give on what is no directory: execute, write_file, read_file, truncate,
/// ioctl_dev.
pub(crate) const FILE_RIGHTS: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;

/// What a container's process is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LandlockOp {
    pub(crate) handled: Handled,
    pub(crate) beneath: Vec<(CString, u64)>,
    pub(crate) ports: Vec<(u16, u64)>,
}

/// The step that the annotation asks for; `None` where nothing is left of it. `version` is that of
/// the kernel's Landlock.
pub(crate) fn landlock(b: &mut Builder, text: &str, version: u32) -> Result<Option<Op>> {
    let field = |name: &str| format!("annotations[{ANNOTATION:?}]{name}");
    if !text.trim_start().starts_with('{') {
        // serde takes a list for an object.
        return Err(Error::config(field(""), "is not a JSON object"));
    }
    let document: Document =
        serde_json::from_str(text).map_err(|e| Error::config(field(""), e.to_string()))?;
    let mut unknown = Vec::new();
    let mut bits = |name: &str, words: &[String], table: Words| -> Result<u64> {
        let mut set = 0;
        for word in words {
            let found = table.iter().zip(0u32..).find(|((w, _), _)| w == word);
            let Some(((_, since), bit)) = found else {
                return Err(Error::config(field(name), format!("unknown access right {word:?}")));
            };
            match *since <= version {
                true => set |= 1u64 << bit,
                false if !unknown.contains(word) => unknown.push(word.clone()),
                false => {}
            }
        }
        Ok(set)
    };
    let ruleset = &document.ruleset;
    let handled = Handled {
        fs: bits(".ruleset.handledAccessFS", &ruleset.handled_access_fs, FS)?,
        net: bits(".ruleset.handledAccessNet", &ruleset.handled_access_net, NET)?,
        scoped: bits(".ruleset.scoped", &ruleset.scoped, SCOPED)?,
    };
    let (mut beneath, mut ports) = (Vec::new(), Vec::new());
    for (i, rule) in document.rules.path_beneath.iter().enumerate() {
        let name = format!(".rules.pathBeneath[{i}]");
        let allowed = bits(&format!("{name}.allowedAccess"), &rule.allowed_access, FS)?;
        if allowed & !handled.fs != 0 {
            return Err(Error::config(
                field(&format!("{name}.allowedAccess")),
                "allows what handledAccessFS does not handle",
            ));
        }
        for (k, path) in rule.paths.iter().enumerate() {
            let name = field(&format!("{name}.paths[{k}]"));
            if !path.starts_with('/') {
                return Err(Error::config(name, format!("{path:?} is not absolute")));
            }
            // Nothing to allow, where the kernel knows none of the rights.
            if allowed != 0 {
                beneath.push((c_string(&name, path)?, allowed));
            }
        }
    }
    for (i, rule) in document.rules.net_port.iter().enumerate() {
        let name = format!(".rules.netPort[{i}].allowedAccess");
        let allowed = bits(&name, &rule.allowed_access, NET)?;
        if allowed & !handled.net != 0 {
            return Err(Error::config(
                field(&name),
                "allows what handledAccessNet does not handle",
            ));
        }
        ports.extend(rule.ports.iter().filter(|_| allowed != 0).map(|port| (*port, allowed)));
    }
    if !unknown.is_empty() {
        let what = match version {
            0 => "the kernel has no Landlock".to_owned(),
            _ => format!("the kernel's Landlock (version {version}) has not"),
        };
        let words = format!("{what}: {}", unknown.join(", "));
        if document.disable_best_effort {
            return Err(Error::config(field(".disableBestEffort"), words));
        }
        b.warnings.push(format!("{}: {words}", field("")));
    }
    if handled.is_empty() {
        return Ok(None);
    }
    Ok(Some(Op::Landlock(Box::new(LandlockOp { handled, beneath, ports }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"{
        "ruleset": {"handledAccessFS": ["write_file", "refer", "ioctl_dev"], "handledAccessNet": ["bind_tcp"]},
        "rules": {
            "pathBeneath": [{"allowedAccess": ["write_file", "ioctl_dev"], "paths": ["/a", "/b"]}],
            "netPort": [{"allowedAccess": ["bind_tcp"], "ports": [80]}]
        }
    }"#;

    fn plan(text: &str, version: u32) -> (Result<Option<Op>>, Vec<String>) {
        let mut b = Builder::default();
        (landlock(&mut b, text, version), b.warnings)
    }

    #[test]
    fn best_effort_keeps_what_the_kernel_knows() {
        for (version, handled, allowed, ports, warned) in [
            (7, (1 << 1 | 1 << 13 | 1 << 15, 1), 1 << 1 | 1 << 15, 1, ""),
            (3, (1 << 1 | 1 << 13, 0), 1 << 1, 0, "ioctl_dev, bind_tcp"),
            (1, (1 << 1, 0), 1 << 1, 0, "refer, ioctl_dev, bind_tcp"),
        ] {
            let (op, warnings) = plan(RULES, version);
            let Ok(Some(Op::Landlock(op))) = op else { panic!("{version}: {op:?}") };
            assert_eq!((op.handled.fs, op.handled.net), handled, "{version}");
            assert_eq!(op.beneath, [(c"/a".into(), allowed), (c"/b".into(), allowed)]);
            assert_eq!(op.ports.len(), ports);
            assert_eq!(warnings.is_empty(), warned.is_empty());
            assert!(warnings.iter().all(|w| w.ends_with(warned)), "{warnings:?}");
        }
        let (op, warnings) = plan(RULES, 0);
        assert!(matches!(op, Ok(None)) && warnings.len() == 1);
    }

    #[test]
    fn without_best_effort_the_kernel_must_know_all() {
        let strict = RULES.replacen('{', r#"{"disableBestEffort": true, "#, 1);
        assert!(plan(&strict, 7).0.is_ok());
        for version in [0, 1, 4] {
            let error = plan(&strict, version).0.unwrap_err().to_string();
            assert!(error.contains("ioctl_dev"), "{error}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "[]",
            r#"{"rulesets": {}}"#,
            r#"{"ruleset": {"handledAccessFS": ["fly"]}}"#,
            r#"{"rules": {"pathBeneath": [{"allowedAccess": ["execute"], "paths": ["/"]}]}}"#,
            r#"{"ruleset": {"handledAccessFS": ["execute"]}, "rules": {"pathBeneath": [{"allowedAccess": ["execute"], "paths": ["x"]}]}}"#,
            r#"{"ruleset": {"handledAccessNet": ["bind_tcp"]}, "rules": {"netPort": [{"allowedAccess": ["connect_tcp"], "ports": [1]}]}}"#,
            r#"{"rules": {"netPort": [{"allowedAccess": ["bind_tcp"], "ports": [65536]}]}}"#,
        ] {
            assert!(plan(bad, 7).0.is_err(), "{bad}");
        }
    }
}
