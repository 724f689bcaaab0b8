//! The log that engines read (`--log`, `--log-format`), and what a person sees.

use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where and how log lines are written.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    /// Opens the log file, if there is one.
    pub(crate) fn open(
        path: Option<&str>,
        format: Option<&str>,
        debug: bool,
    ) -> Result<Log, String> {
        let json = match format {
            None | Some("text" | "") => false,
            Some("json") => true,
            Some(other) => return Err(format!("invalid log-format: {other}")),
        };
        let file = match path {
            None | Some("") => None,
            Some(path) => Some(
                File::options()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|e| format!("open log file {path}: {e}"))?,
            ),
        };
        Ok(Log { file, json, debug })
    }

    /// An error: to the log, and to the person.
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            eprintln!("{message}");
        }
    }

    /// Something that is not as wished.
    pub(crate) fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// For who looks closely.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = self.line(level, message);
        let written = match &self.file {
            Some(file) => {
                let mut file: &File = file;
                file.write_all(line.as_bytes())
            }
            None => std::io::stderr().write_all(line.as_bytes()),
        };
        // A log that cannot be written must not keep the container from being run.
        if let Err(error) = written {
            eprintln!("{message} (and the log cannot be written: {error})");
        }
    }

    fn line(&self, level: &str, message: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = hako_runtime::rfc3339(now.as_secs(), now.subsec_nanos());
        let quoted = serde_json::Value::from(message).to_string();
        match self.json {
            true => format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n"),
            false => format!("time=\"{time}\" level={level} msg={quoted}\n"),
        }
    }
}

/// An error with everything that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors repeat themselves.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_engines_parse() {
        let json = Log { json: true, ..Log::default() }.line("error", "a \"b\"\n");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (value["level"].as_str(), value["msg"].as_str()),
            (Some("error"), Some("a \"b\"\n"))
        );
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
        assert!(Log::default().line("error", "x").contains("level=error msg=\"x\""));
    }
}
