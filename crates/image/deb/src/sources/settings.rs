//! How the machine wants archives to be asked: apt.conf(5), as `apt-config` reads it.

use std::{io, process::Command};

use crate::{Error, Result};

/// Proxies, and what is checked of a release's dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Proxy for `http`; an empty one means none, `None` that the environment says.
    pub http_proxy: Option<String>,
    /// The same for `https`.
    pub https_proxy: Option<String>,
    /// Whether a release that has expired is refused.
    pub check_valid_until: bool,
    /// Whether a release of the future is refused.
    pub check_date: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { http_proxy: None, https_proxy: None, check_valid_until: true, check_date: true }
    }
}

impl Settings {
    /// apt's settings; the default where there is no apt.
    pub fn of_machine() -> Result<Settings> {
        let output = match Command::new("apt-config").arg("dump").output() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            output => output.map_err(|e| Error::io("exec", "apt-config", e))?,
        };
        match output.status.success() {
            true => Ok(Settings::of_dump(&String::from_utf8_lossy(&output.stdout))),
            false => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Error::Apt { what: "apt-config dump".into(), why })
            }
        }
    }

    /// From lines as `Acquire::http::Proxy "http://proxy:3128";`.
    fn of_dump(text: &str) -> Settings {
        let value = |wanted: &str| {
            text.lines().rev().find_map(|line| {
                let (name, rest) = line.split_once(' ')?;
                let value = rest.trim().strip_prefix('"')?.strip_suffix("\";")?;
                name.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
            })
        };
        let proxy = |name| {
            let found: Option<String> = value(name).filter(|text| !text.is_empty());
            found.map(|text| if text.eq_ignore_ascii_case("DIRECT") { String::new() } else { text })
        };
        let is_on = |name| value(name).and_then(|v| super::is_yes(&v).ok()).unwrap_or(true);
        let http_proxy = proxy("Acquire::http::Proxy");
        Settings {
            https_proxy: proxy("Acquire::https::Proxy").or_else(|| http_proxy.clone()),
            http_proxy,
            check_valid_until: is_on("Acquire::Check-Valid-Until"),
            check_date: is_on("Acquire::Check-Date"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_config_says() {
        assert_eq!(Settings::of_dump(""), Settings::default());
        let text = "Acquire \"\";\nAcquire::http::Proxy \"http://p:3128/\";\n\
                    Acquire::HTTPS::Proxy \"DIRECT\";\nAcquire::Check-Valid-Until \"false\";\n";
        let settings = Settings::of_dump(text);
        assert_eq!(settings.http_proxy.as_deref(), Some("http://p:3128/"));
        assert_eq!(settings.https_proxy.as_deref(), Some(""));
        assert!(!settings.check_valid_until && settings.check_date);
    }
}
