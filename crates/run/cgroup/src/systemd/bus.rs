//! A connection to systemd's manager: over the message bus, or right to its private socket.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::wire::{self, Call, ERROR, Message, PREFIX, REPLY, SIGNAL, Value};
use crate::{Error, Result};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const DBUS: &str = "org.freedesktop.DBus";
/// How long systemd may take for one thing; runc waits as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Signals that are kept for who asks for them later.
const SIGNALS_MAX: usize = 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: UnixStream,
    path: PathBuf,
    serial: u32,
    /// Jobs that ended before anybody asked: their paths and results.
    ended: Vec<(String, String)>,
}

/// An error that systemd answered with: its name, and its words.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The manager said no.
    Error { name: String, words: String },
    /// The connection failed.
    Broken(Error),
}

/// Where a manager can be found, the bus first: whether it is one, and the socket.
fn places(user: bool) -> Vec<(bool, PathBuf)> {
    let address = |name: &str| {
        // The first of several; only sockets in the file system are meant here.
        let address = std::env::var(name).ok()?;
        let path = address.split(';').find_map(|a| a.strip_prefix("unix:path="))?;
        Some(PathBuf::from(path.split(',').next()?))
    };
    if !user {
        let bus = address("DBUS_SYSTEM_BUS_ADDRESS");
        let bus = bus.unwrap_or_else(|| PathBuf::from("/run/dbus/system_bus_socket"));
        return vec![(true, bus), (false, PathBuf::from("/run/systemd/private"))];
    }
    let uid = hako_sys::cred::effective_uid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from);
    let bus = address("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| runtime.join("bus"));
    vec![(true, bus), (false, runtime.join("systemd/private"))]
}

impl Bus {
    /// Connects to the manager of the machine, or of the calling user.
    pub(crate) fn connect(user: bool) -> Result<Bus> {
        let mut failed = Vec::new();
        for (is_bus, path) in places(user) {
            match Bus::open(&path, is_bus) {
                Ok(bus) => return Ok(bus),
                Err(e) => failed.push(e.to_string()),
            }
        }
        let whose = if user { "of this user" } else { "of this machine" };
        Err(Error::Systemd { what: format!("reach systemd {whose}"), why: failed.join("; ") })
    }

    /// Connects to one socket.
    pub(crate) fn open(path: &Path, is_bus: bool) -> Result<Bus> {
        let fail = |e: std::io::Error| broken(path, e.to_string());
        let stream = UnixStream::connect(path).map_err(fail)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(fail)?;
        let mut bus = Bus { stream, path: path.to_owned(), serial: 0, ended: Vec::new() };
        bus.authenticate()?;
        if is_bus {
            bus.ask(DBUS, "/org/freedesktop/DBus", DBUS, "Hello", vec![])?;
            let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
            let body = vec![Value::Str(rule)];
            bus.ask(DBUS, "/org/freedesktop/DBus", DBUS, "AddMatch", body)?;
        }
        // Without a subscriber systemd sends no signals.
        bus.manager("Subscribe", vec![]).or_else(|refused| match refused {
            Refused::Error { name, .. } if name.ends_with(".AlreadySubscribed") => Ok(vec![]),
            other => Err(other.into_error("subscribe to jobs")),
        })?;
        Ok(bus)
    }

    /// SASL, with the credentials of the socket.
    fn authenticate(&mut self) -> Result<()> {
        let uid = hako_sys::cred::effective_uid().to_string();
        let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).map_err(|e| broken(&self.path, e.to_string()))?;
            line.push(byte[0]);
            if line.len() > 1024 {
                return Err(broken(&self.path, "no end to the answer to AUTH".to_owned()));
            }
        }
        if !line.starts_with(b"OK ") {
            let words = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(broken(&self.path, format!("AUTH EXTERNAL: {words}")));
        }
        self.send(b"BEGIN\r\n")
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(|e| broken(&self.path, e.to_string()))
    }

    fn receive(&mut self) -> Result<Message> {
        let fail = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::WouldBlock => {
                broken(&self.path, format!("no answer for {} s", PATIENCE.as_secs()))
            }
            _ => broken(&self.path, e.to_string()),
        };
        let mut prefix = [0; PREFIX];
        self.stream.read_exact(&mut prefix).map_err(fail)?;
        let nonsense = || broken(&self.path, "it does not speak D-Bus".to_owned());
        let length = wire::length(&prefix).ok_or_else(nonsense)?;
        let mut bytes = prefix.to_vec();
        bytes.resize(length, 0);
        self.stream.read_exact(&mut bytes[PREFIX..]).map_err(fail)?;
        wire::decode(&bytes).ok_or_else(nonsense)
    }

    /// Calls a method, and returns the values that it answers.
    fn call(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: Vec<Value>,
    ) -> std::result::Result<Vec<Value>, Refused> {
        self.serial += 1;
        let serial = self.serial;
        let bytes = Call { destination, path, interface, member, body }.encode(serial);
        self.send(&bytes).map_err(Refused::Broken)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive().map_err(Refused::Broken)?;
            match message.kind {
                REPLY if message.reply_to == serial => return Ok(message.body),
                ERROR if message.reply_to == serial => {
                    let words = message.body.first().and_then(Value::text).unwrap_or_default();
                    return Err(Refused::Error { name: message.error, words: words.to_owned() });
                }
                _ => self.note(message),
            }
            // Signals of others do not keep it waiting for ever.
            if Instant::now() > deadline {
                return Err(Refused::Broken(broken(&self.path, format!("no answer to {member}"))));
            }
        }
    }

    /// A call that is not refused.
    fn ask(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>> {
        self.call(destination, path, interface, member, body)
            .map_err(|refused| refused.into_error(member))
    }

    /// Calls a method of the manager.
    pub(crate) fn manager(
        &mut self,
        member: &str,
        body: Vec<Value>,
    ) -> std::result::Result<Vec<Value>, Refused> {
        self.call(SYSTEMD, MANAGER_PATH, MANAGER, member, body)
    }

    /// A property of the manager that is a text.
    pub(crate) fn property(&mut self, name: &str) -> Result<String> {
        let body = vec![Value::str(MANAGER), Value::str(name)];
        let properties = "org.freedesktop.DBus.Properties";
        let answer = self.ask(SYSTEMD, MANAGER_PATH, properties, "Get", body)?;
        let text = answer.first().and_then(Value::text).map(str::to_owned);
        text.ok_or_else(|| broken(&self.path, format!("{name} is no text")))
    }

    /// Keeps what a later wait asks for.
    fn note(&mut self, message: Message) {
        if message.kind != SIGNAL || message.member != "JobRemoved" {
            return;
        }
        if let [Value::U32(_), Value::Path(job), Value::Str(_), Value::Str(result)] =
            message.body.as_slice()
        {
            if self.ended.len() == SIGNALS_MAX {
                self.ended.remove(0);
            }
            self.ended.push((job.clone(), result.clone()));
        }
    }

    /// Waits for the end of a job, and returns its result; `done` is the good one.
    pub(crate) fn wait(&mut self, job: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.ended.iter().position(|(ended, _)| ended == job) {
                return Ok(self.ended.swap_remove(at).1);
            }
            if Instant::now() > deadline {
                return Err(broken(&self.path, format!("job {job} does not end")));
            }
            let message = self.receive()?;
            self.note(message);
        }
    }
}

impl Refused {
    pub(crate) fn into_error(self, what: &str) -> Error {
        match self {
            Refused::Broken(error) => error,
            Refused::Error { name, words } => {
                Error::Systemd { what: what.to_owned(), why: format!("{words} ({name})") }
            }
        }
    }

    /// Whether there is no such unit.
    pub(crate) fn is_no_unit(&self) -> bool {
        matches!(self, Refused::Error { name, .. } if name.ends_with(".NoSuchUnit"))
    }

    /// Whether there is such a unit already.
    pub(crate) fn is_unit_exists(&self) -> bool {
        matches!(self, Refused::Error { name, .. } if name.ends_with(".UnitExists"))
    }
}

fn broken(path: &Path, why: String) -> Error {
    Error::Systemd { what: path.display().to_string(), why }
}
