//! Cgroups that systemd makes: a transient scope for each container, asked for over D-Bus.
//!
//! systemd owns the upper part of the tree. A cgroup that it does not know of below one of its own
//! is not safe from it; a scope with `Delegate=yes` is. A scope begins with a process in it, so the
//! container's process is born first, waits, and is put there.

mod bus;
mod properties;
mod wire;

use hako_oci::runtime::Resources;
use serde::{Deserialize, Serialize};

use self::{bus::Bus, properties::Property, wire::Value};
use crate::{Error, Host, Result};

/// crun's annotation: a cgroup within the scope that the container gets, not the scope's own.
const SUBGROUP: &str = "run.oci.systemd.subgroup";

/// A unit that holds a container. Saved with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    name: String,
    /// Of the calling user's own manager.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    user: bool,
}

/// A unit to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    unit: Unit,
    slice: String,
    /// The slice's cgroup, absolute in the hierarchy.
    above: String,
    subgroup: Option<String>,
    id: String,
    properties: Vec<Property>,
}

impl Scope {
    /// What `linux.cgroupsPath` asks for: `slice:prefix:name`, or where it says nothing a scope of
    /// the container's name. `user`: of the calling user's manager, which is asked where it is.
    pub fn new<'a>(
        cgroups_path: Option<&str>,
        id: &str,
        user: bool,
        annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Scope> {
        let above = match user {
            true => Bus::connect(true)?.property("ControlGroup")?,
            false => String::new(),
        };
        Scope::below(&above, cgroups_path, id, user, annotations)
    }

    fn below<'a>(
        manager: &str,
        cgroups_path: Option<&str>,
        id: &str,
        user: bool,
        annotations: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Scope> {
        let invalid = |why: String| Error::invalid("linux.cgroupsPath".to_owned(), why);
        let default = if user { "user.slice" } else { "system.slice" };
        let (slice, name) = match cgroups_path.filter(|p| !p.is_empty()) {
            None => (default, format!("hako-{id}.scope")),
            Some(path) => {
                let parts: Vec<&str> = path.split(':').collect();
                let [slice, prefix, name] = parts.as_slice() else {
                    return Err(invalid(format!(
                        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd \
                         cgroups, got {path:?} instead"
                    )));
                };
                let unit = match (*prefix, *name) {
                    (_, name) if name.ends_with(".slice") => name.to_owned(),
                    ("", name) => format!("{name}.scope"),
                    (prefix, name) => format!("{prefix}-{name}.scope"),
                };
                (if slice.is_empty() { default } else { slice }, unit)
            }
        };
        // systemd.unit(5): what else is in a name has a meaning.
        let fine = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.len() > 255 || !name.chars().all(fine) {
            return Err(invalid(format!("{name:?} is not the name of a unit")));
        }
        let mut scope = Scope {
            above: format!(
                "{manager}{}",
                expand(slice).ok_or_else(|| { invalid(format!("invalid slice name: {slice}")) })?
            ),
            slice: slice.to_owned(),
            unit: Unit { name, user },
            subgroup: None,
            id: id.to_owned(),
            properties: Vec::new(),
        };
        for (key, value) in annotations {
            if key == SUBGROUP {
                if value.contains('/') || matches!(value.as_str(), "" | "." | "..") {
                    let why = format!("{value:?} is not the name of a cgroup");
                    return Err(Error::invalid(format!("annotations.{key}"), why));
                }
                scope.subgroup = Some(value.clone());
            }
            scope.properties.extend(properties::of_annotation(key, value)?);
        }
        Ok(scope)
    }

    /// Its cgroup, absolute in each hierarchy.
    pub fn cgroup_path(&self) -> String {
        let mut path = format!("{}/{}", self.above, self.unit.name);
        if let Some(subgroup) = &self.subgroup {
            path.push('/');
            path.push_str(subgroup);
        }
        path
    }

    /// The unit.
    pub(crate) fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Adds the limits, so that systemd knows them.
    pub(crate) fn limit(&mut self, host: &Host, r: &Resources, devices: bool) -> Result<()> {
        let limits = properties::of_resources(host, r, devices)?;
        // What annotations say counts more.
        self.properties.splice(0..0, limits);
        self.properties.splice(0..0, self.first(host));
        Ok(())
    }

    /// Leaves device access to the caller.
    pub(crate) fn without_devices(&mut self) {
        self.properties.retain(|(name, _)| !name.starts_with("Device"));
    }

    fn first(&self, host: &Host) -> Vec<Property> {
        let mut first = vec![(
            "Description".to_owned(),
            Value::Str(format!("hako-runc container {}", self.id)),
        )];
        let is_slice = self.unit.name.ends_with(".slice");
        if is_slice {
            let wants = Value::Array("s".to_owned(), vec![Value::str(&self.slice)]);
            first.push(("Wants".to_owned(), wants));
        } else {
            first.push(("Slice".to_owned(), Value::str(&self.slice)));
            first.push(("Delegate".to_owned(), Value::Bool(true)));
        }
        let io = if host.v1.is_empty() { "IOAccounting" } else { "BlockIOAccounting" };
        for name in ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"] {
            first.push((name.to_owned(), Value::Bool(true)));
        }
        first.push(("DefaultDependencies".to_owned(), Value::Bool(false)));
        first
    }

    /// Makes the unit, with this process in it.
    pub(crate) fn start(&self, pid: i32) -> Result<Unit> {
        self.start_on(&mut Bus::connect(self.unit.user)?, pid)?;
        Ok(self.unit.clone())
    }

    fn start_on(&self, bus: &mut Bus, pid: i32) -> Result<()> {
        let mut all = self.properties.clone();
        let pids = Value::Array("u".to_owned(), vec![Value::U32(pid as u32)]);
        all.push(("PIDs".to_owned(), pids));
        let name = || Value::str(&self.unit.name);
        let body = vec![
            name(),
            Value::str("replace"),
            structs(&all),
            Value::Array("(sa(sv))".to_owned(), vec![]),
        ];
        let what = format!("start {}", self.unit.name);
        let answer = match bus.manager("StartTransientUnit", body.clone()) {
            // One that failed before stays until somebody says that he knows.
            Err(refused) if refused.is_unit_exists() => bus
                .manager("ResetFailedUnit", vec![name()])
                .and_then(|_| bus.manager("StartTransientUnit", body)),
            other => other,
        };
        let answer = answer.map_err(|refused| refused.into_error(&what))?;
        await_job(bus, &answer, &what)
    }
}

impl Unit {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes limits.
    pub(crate) fn set(&self, host: &Host, r: &Resources) -> Result<()> {
        let properties = properties::of_resources(host, r, false)?;
        if properties.is_empty() {
            return Ok(());
        }
        self.set_on(&mut Bus::connect(self.user)?, &properties)
    }

    fn set_on(&self, bus: &mut Bus, properties: &[Property]) -> Result<()> {
        // `true`: for as long as it runs.
        let body = vec![Value::str(&self.name), Value::Bool(true), structs(properties)];
        bus.manager("SetUnitProperties", body)
            .map(drop)
            .map_err(|refused| refused.into_error(&format!("set properties of {}", self.name)))
    }

    /// Ends the unit with all in it, and forgets it. Ok where it is gone already.
    pub(crate) fn stop(&self) -> Result<()> {
        self.stop_on(&mut Bus::connect(self.user)?)
    }

    fn stop_on(&self, bus: &mut Bus) -> Result<()> {
        let what = format!("stop {}", self.name);
        let body = vec![Value::str(&self.name), Value::str("replace")];
        match bus.manager("StopUnit", body) {
            Ok(answer) => await_job(bus, &answer, &what)?,
            Err(refused) if refused.is_no_unit() => return Ok(()),
            Err(refused) => return Err(refused.into_error(&what)),
        }
        match bus.manager("ResetFailedUnit", vec![Value::str(&self.name)]) {
            Err(refused) if !refused.is_no_unit() => Err(refused.into_error(&what)),
            _ => Ok(()),
        }
    }
}

/// Reads bytes as a connection does, one message: how many values it carries, or `None` where it is
/// none. For the fuzz target.
#[doc(hidden)]
pub fn values_of_message(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.get(..wire::PREFIX)?.try_into().ok()?;
    let whole = bytes.get(..wire::length(prefix)?)?;
    wire::decode(whole).map(|message| message.body.len())
}

fn structs(properties: &[Property]) -> Value {
    let pairs = properties
        .iter()
        .map(|(name, value)| Value::Struct(vec![Value::str(name), Value::variant(value.clone())]));
    Value::Array("(sv)".to_owned(), pairs.collect())
}

fn await_job(bus: &mut Bus, answer: &[Value], what: &str) -> Result<()> {
    let failed = |why: String| Error::Systemd { what: what.to_owned(), why };
    let job = answer.first().and_then(Value::text);
    let job = job.ok_or_else(|| failed("systemd named no job".to_owned()))?;
    match bus.wait(job)?.as_str() {
        "done" => Ok(()),
        result => Err(failed(format!("the job ended as {result:?}"))),
    }
}

/// The cgroup of a slice: `a-b.slice` is `/a.slice/a-b.slice`. `None` where it is no slice's name.
fn expand(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || ":_.\\@".contains(c);
    let (mut path, mut name) = (String::new(), String::new());
    for part in stem.split('-') {
        if part.is_empty() || !part.chars().all(fine) {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(part);
        path.push_str(&format!("/{name}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixListener;

    use super::wire::{ERROR, REPLY, SIGNAL, tests::answer};
    use super::*;

    fn scope(path: Option<&str>) -> Result<Scope> {
        Scope::below("", path, "web", false, &BTreeMap::new())
    }

    #[test]
    fn paths_become_units() {
        for (path, cgroup) in [
            (None, "/system.slice/hako-web.scope"),
            (Some("system.slice:cri:abc"), "/system.slice/cri-abc.scope"),
            (Some(":p:n"), "/system.slice/p-n.scope"),
            (Some("a-b-c.slice::n"), "/a.slice/a-b.slice/a-b-c.slice/n.scope"),
            (Some("-.slice:p:n"), "/p-n.scope"),
            (Some("a.slice:p:n.slice"), "/a.slice/n.slice"),
        ] {
            assert_eq!(scope(path).unwrap().cgroup_path(), cgroup, "{path:?}");
        }
        for bad in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a--b.slice:x:y",
            "-a.slice:x:y",
            "a/b.slice:x:y",
            "a.slice:x:../y",
            "a.slice:x:y z",
        ] {
            assert!(scope(Some(bad)).is_err(), "{bad}");
        }
        let user = Scope::below("/user.slice/user@7.service", None, "web", true, &BTreeMap::new());
        assert_eq!(
            user.unwrap().cgroup_path(),
            "/user.slice/user@7.service/user.slice/hako-web.scope"
        );
    }

    #[test]
    fn annotations_are_properties_and_a_group_within() {
        let mut annotations = BTreeMap::from([
            (SUBGROUP.to_owned(), "container".to_owned()),
            ("org.systemd.property.CollectMode".to_owned(), "'inactive'".to_owned()),
        ]);
        let found = Scope::below("", None, "web", false, &annotations).unwrap();
        assert_eq!(found.cgroup_path(), "/system.slice/hako-web.scope/container");
        assert_eq!(found.properties.len(), 1);
        annotations.insert(SUBGROUP.to_owned(), "../up".to_owned());
        assert!(Scope::below("", None, "web", false, &annotations).is_err());
    }

    /// A bus with a manager that answers in this order, and returns the methods it was asked for.
    /// `Ok` is a job, named by its number; `Err` is an error's name.
    fn with_bus(
        is_bus: bool,
        answers: Vec<std::result::Result<u32, &'static str>>,
        job_result: &'static str,
        ask: impl FnOnce(&mut Bus) -> Result<()>,
    ) -> (Result<()>, Vec<String>) {
        let dir = std::env::temp_dir().join(format!(
            "hako-bus-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("bus")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(line.starts_with("\0AUTH EXTERNAL "), "{line:?}");
            stream.write_all(b"OK 1234\r\n").unwrap();
            line.clear();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, "BEGIN\r\n");
            let mut answers = answers.into_iter();
            let mut asked = Vec::new();
            let mut prefix = [0; wire::PREFIX];
            while reader.read_exact(&mut prefix).is_ok() {
                let mut bytes = prefix.to_vec();
                bytes.resize(wire::length(&prefix).unwrap(), 0);
                reader.read_exact(&mut bytes[wire::PREFIX..]).unwrap();
                let serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
                let member = wire::decode(&bytes).unwrap().member;
                let mut out = Vec::new();
                match member.as_str() {
                    "Hello" | "AddMatch" | "Subscribe" => {
                        out.extend(answer(REPLY, serial, "", vec![]));
                    }
                    _ => match answers.next().expect("one more answer") {
                        Ok(job) => {
                            let path = Value::Path(format!("/job/{job}"));
                            let signal = |path: Value| {
                                let body = vec![
                                    Value::U32(job),
                                    path,
                                    Value::str("u"),
                                    Value::str(job_result),
                                ];
                                answer(SIGNAL, 0, "JobRemoved", body)
                            };
                            // Another's job, and its own, whose end may be told before the answer.
                            out.extend(signal(Value::Path("/job/99".to_owned())));
                            if job % 2 == 0 {
                                out.extend(signal(path.clone()));
                            }
                            out.extend(answer(REPLY, serial, "", vec![path.clone()]));
                            if job % 2 == 1 {
                                out.extend(signal(path));
                            }
                        }
                        Err(name) => {
                            out.extend(answer(ERROR, serial, name, vec![Value::str("words")]));
                        }
                    },
                }
                stream.write_all(&out).unwrap();
                asked.push(member);
            }
            asked
        });
        let result = Bus::open(&dir.join("bus"), is_bus).and_then(|mut bus| ask(&mut bus));
        let asked = server.join().unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        (result, asked)
    }

    #[test]
    fn a_scope_is_started_and_stopped() {
        let scope = scope(None).unwrap();
        let (result, asked) = with_bus(true, vec![Ok(1)], "done", |bus| scope.start_on(bus, 7));
        result.unwrap();
        assert_eq!(asked, ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
        // The private socket is no bus; the end of the job may come before its name.
        let (result, asked) =
            with_bus(false, vec![Ok(2), Ok(4)], "done", |bus| scope.unit.stop_on(bus));
        result.unwrap();
        assert_eq!(asked, ["Subscribe", "StopUnit", "ResetFailedUnit"]);
    }

    #[test]
    fn what_systemd_refuses_is_told() {
        let scope = scope(None).unwrap();
        let (result, _) = with_bus(true, vec![Ok(1)], "failed", |bus| scope.start_on(bus, 7));
        assert!(result.unwrap_err().to_string().contains("the job ended as \"failed\""));
        let error = "org.freedesktop.systemd1.NoSuchUnit";
        let (result, _) = with_bus(true, vec![Err(error)], "", |bus| scope.unit.stop_on(bus));
        result.unwrap();
        let denied = "org.freedesktop.DBus.Error.AccessDenied";
        let (result, _) = with_bus(true, vec![Err(denied)], "", |bus| {
            scope.unit.set_on(bus, &[("TasksMax".to_owned(), Value::U64(5))])
        });
        let message = result.unwrap_err().to_string();
        assert!(
            message.contains("hako-web.scope") && message.contains("AccessDenied"),
            "{message}"
        );
    }

    #[test]
    fn a_unit_that_failed_before_is_made_again() {
        let scope = scope(None).unwrap();
        let exists = "org.freedesktop.systemd1.UnitExists";
        let answers = vec![Err(exists), Ok(2), Ok(3)];
        let (result, asked) = with_bus(true, answers, "done", |bus| scope.start_on(bus, 7));
        result.unwrap();
        assert_eq!(asked[3..], ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
    }

    #[test]
    fn who_does_not_speak_it_is_an_error() {
        let dir = std::env::temp_dir().join(format!("hako-no-bus-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        assert!(Bus::open(&dir.join("bus"), true).is_err());
        let listener = UnixListener::bind(dir.join("bus")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Closed with something unread, it would be reset, and the answer lost.
            assert!(stream.read(&mut [0; 512]).unwrap() > 0);
            stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        });
        let error = Bus::open(&dir.join("bus"), true).unwrap_err().to_string();
        assert!(error.contains("REJECTED"), "{error}");
        server.join().unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
