//! The log that engines read (`--log`, `--log-format`), and what a person sees.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where and how log lines are written.
#[derive(Debug, Default)]
pub(crate) struct Log {
    sink: Sink,
    json: bool,
    debug: bool,
}

#[derive(Debug, Default)]
enum Sink {
    #[default]
    StandardError,
    File(File),
    /// As the identifier, to /dev/log (RFC 3164, without time and host).
    Syslog(UnixDatagram, String),
    /// As the identifier, in the journal's native form.
    Journal(UnixDatagram, String),
}

impl Sink {
    /// `syslog:NAME`, `journald:NAME`, `file:PATH` or a path, as crun has it.
    fn open(to: &str, syslog: &Path, journal: &Path) -> Result<Sink, String> {
        let connect = |path: &Path| {
            let connected = UnixDatagram::unbound().and_then(|s| s.connect(path).map(|()| s));
            connected.map_err(|e| format!("connect to log {}: {e}", path.display()))
        };
        let name = |name: &str| if name.is_empty() { "hako-runc" } else { name }.to_owned();
        match to.split_once(':') {
            Some(("syslog", id)) => Ok(Sink::Syslog(connect(syslog)?, name(id))),
            Some(("journald", id)) => Ok(Sink::Journal(connect(journal)?, name(id))),
            other => {
                let path = other.filter(|(kind, _)| *kind == "file").map_or(to, |(_, path)| path);
                let file = File::options().create(true).append(true).open(path);
                Ok(Sink::File(file.map_err(|e| format!("open log file {path}: {e}"))?))
            }
        }
    }
}

/// Severities of syslog(3), by the words of the log.
fn severity(level: &str) -> u8 {
    match level {
        "error" => 3,
        "warning" => 4,
        _ => 7,
    }
}

/// One datagram for syslog: facility "user".
fn syslog_line(level: &str, name: &str, message: &str) -> String {
    format!("<{}>{name}[{}]: {message}", 8 | severity(level), std::process::id())
}

/// One datagram for the journal: fields, the message by its length because it may have lines.
fn journal_entry(level: &str, name: &str, message: &str) -> Vec<u8> {
    let mut entry = format!(
        "PRIORITY={}\nSYSLOG_IDENTIFIER={}\nSYSLOG_PID={}\nMESSAGE\n",
        severity(level),
        name.replace('\n', " "),
        std::process::id()
    )
    .into_bytes();
    entry.extend((message.len() as u64).to_le_bytes());
    entry.extend(message.as_bytes());
    entry.push(b'\n');
    entry
}

impl Log {
    /// Opens the log, if there is one.
    pub(crate) fn open(to: Option<&str>, format: Option<&str>, debug: bool) -> Result<Log, String> {
        let json = match format {
            None | Some("text" | "") => false,
            Some("json") => true,
            Some(other) => return Err(format!("invalid log-format: {other}")),
        };
        let sink = match to {
            None | Some("") => Sink::StandardError,
            Some(to) => {
                let journal = Path::new("/run/systemd/journal/socket");
                Sink::open(to, Path::new("/dev/log"), journal)?
            }
        };
        Ok(Log { sink, json, debug })
    }

    /// An error: to the log, and to the person.
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
        if !matches!(self.sink, Sink::StandardError) {
            say(format_args!("{message}"));
        }
    }

    /// Something that is not as wished.
    pub(crate) fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// Whether anybody looks closely.
    pub(crate) fn is_debug(&self) -> bool {
        self.debug
    }

    /// For who looks closely.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = self.line(level, message);
        let written = match &self.sink {
            Sink::File(file) => {
                let mut file: &File = file;
                file.write_all(line.as_bytes())
            }
            Sink::StandardError => std::io::stderr().write_all(line.as_bytes()),
            Sink::Syslog(socket, name) => {
                socket.send(syslog_line(level, name, message).as_bytes()).map(drop)
            }
            Sink::Journal(socket, name) => {
                socket.send(&journal_entry(level, name, message)).map(drop)
            }
        };
        // A log that cannot be written must not keep the container from being run.
        if let Err(error) = written {
            say(format_args!("{message} (and the log cannot be written: {error})"));
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

/// Says something on standard error. Where that cannot be (a terminal that hung up, a full disk)
/// there is nobody left to tell, which is no reason to panic.
pub(crate) fn say(words: std::fmt::Arguments<'_>) {
    let _nobody = std::io::stderr().lock().write_all(format!("{words}\n").as_bytes());
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

    #[test]
    fn daemons_get_datagrams_of_their_own_form() {
        let dir = tempfile::tempdir().unwrap();
        let receive = |to: &str| {
            let path = dir.path().join(to.replace(':', "-"));
            let server = UnixDatagram::bind(&path).unwrap();
            let log = Log { sink: Sink::open(to, &path, &path).unwrap(), ..Log::default() };
            log.warn("two\nlines");
            let mut buffer = [0; 512];
            let n = server.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        };
        let pid = std::process::id();
        assert_eq!(receive("syslog:web"), format!("<12>web[{pid}]: two\nlines"));
        assert_eq!(
            receive("journald:"),
            format!(
                "PRIORITY=4\nSYSLOG_IDENTIFIER=hako-runc\nSYSLOG_PID={pid}\nMESSAGE\n\
                 \u{9}\0\0\0\0\0\0\0two\nlines\n"
            )
        );
        let nowhere = dir.path().join("nowhere");
        assert!(Sink::open("syslog:x", &nowhere, &nowhere).unwrap_err().contains("nowhere"));
        let file = dir.path().join("log");
        let to = format!("file:{}", file.display());
        Log { sink: Sink::open(&to, &nowhere, &nowhere).unwrap(), ..Log::default() }.error("x");
        assert!(std::fs::read_to_string(file).unwrap().contains("level=error msg=\"x\""));
    }
}
