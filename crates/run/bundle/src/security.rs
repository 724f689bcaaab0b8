//! `--security-opt`.

use std::path::PathBuf;

use crate::mount::parse_bool;
use crate::options::{SeccompChoice, Security};

/// An option that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// No option, or one without its value.
    #[error("invalid --security-opt: {0:?}")]
    Invalid(String),
    /// A value the option cannot have.
    #[error("invalid --security-opt {name}: {value:?}")]
    Value {
        /// Name of the option.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    /// `seccomp=FILE`: the caller reads the file, and gives [`Security::set_seccomp_profile`] its
    /// text.
    SeccompFile(PathBuf),
    /// `seccomp=unconfined`.
    SeccompUnconfined,
    /// `seccomp=builtin`.
    SeccompBuiltin,
    /// `no-new-privileges[=BOOL]`.
    NoNewPrivileges(bool),
    /// `apparmor=PROFILE`.
    AppArmor(String),
    /// `label=…`.
    Label(String),
    /// `systempaths=unconfined`.
    SystemPathsUnconfined,
}

/// Reads one `--security-opt`. Name and value are joined by `=`, or by `:` as long ago.
pub fn parse(text: &str) -> Result<SecurityOption, SecurityError> {
    let invalid = || SecurityError::Invalid(text.into());
    let (name, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((name, value)) => (name, value),
        None if text == "no-new-privileges" => (text, "true"),
        None => return Err(invalid()),
    };
    if value.is_empty() {
        return Err(invalid());
    }
    match (name, value) {
        ("seccomp", "unconfined") => Ok(SecurityOption::SeccompUnconfined),
        ("seccomp", "builtin") => Ok(SecurityOption::SeccompBuiltin),
        ("seccomp", file) => Ok(SecurityOption::SeccompFile(file.into())),
        ("no-new-privileges", value) => parse_bool(value)
            .map(SecurityOption::NoNewPrivileges)
            .ok_or_else(|| SecurityError::Value { name: "no-new-privileges", value: value.into() }),
        ("apparmor", profile) => Ok(SecurityOption::AppArmor(profile.into())),
        ("label", label) => Ok(SecurityOption::Label(label.into())),
        ("systempaths", "unconfined") => Ok(SecurityOption::SystemPathsUnconfined),
        ("systempaths", value) => {
            Err(SecurityError::Value { name: "systempaths", value: value.into() })
        }
        _ => Err(invalid()),
    }
}

impl Security {
    /// Takes one option; of the same twice the last counts. The path of a profile is given back,
    /// to be read.
    pub fn set(&mut self, option: SecurityOption) -> Option<PathBuf> {
        match option {
            SecurityOption::SeccompFile(path) => return Some(path),
            SecurityOption::SeccompUnconfined => self.seccomp = SeccompChoice::Unconfined,
            SecurityOption::SeccompBuiltin => self.seccomp = SeccompChoice::Default,
            SecurityOption::NoNewPrivileges(value) => self.no_new_privileges = value,
            SecurityOption::AppArmor(profile) => self.apparmor = Some(profile),
            SecurityOption::Label(label) => self.labels.push(label),
            SecurityOption::SystemPathsUnconfined => self.system_paths_unconfined = true,
        }
        None
    }

    /// Takes the text of a profile.
    pub fn set_seccomp_profile(&mut self, text: String) {
        self.seccomp = SeccompChoice::Profile(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        use SecurityOption as O;
        let invalid = |text: &str| Err(SecurityError::Invalid(text.into()));
        for (text, expected) in [
            ("seccomp=unconfined", Ok(O::SeccompUnconfined)),
            ("seccomp:unconfined", Ok(O::SeccompUnconfined)),
            ("seccomp=builtin", Ok(O::SeccompBuiltin)),
            ("seccomp=a=b.json", Ok(O::SeccompFile("a=b.json".into()))),
            ("no-new-privileges", Ok(O::NoNewPrivileges(true))),
            ("no-new-privileges:true", Ok(O::NoNewPrivileges(true))),
            ("no-new-privileges=false", Ok(O::NoNewPrivileges(false))),
            ("apparmor=docker-default", Ok(O::AppArmor("docker-default".into()))),
            ("label=type:svirt", Ok(O::Label("type:svirt".into()))),
            ("label:disable", Ok(O::Label("disable".into()))),
            ("systempaths=unconfined", Ok(O::SystemPathsUnconfined)),
            ("seccomp=", invalid("seccomp=")),
            ("seccomp", invalid("seccomp")),
            ("foo=bar", invalid("foo=bar")),
            ("", invalid("")),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        let error = parse("no-new-privileges=maybe").unwrap_err().to_string();
        assert_eq!(error, "invalid --security-opt no-new-privileges: \"maybe\"");
    }
}
