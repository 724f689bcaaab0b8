//! `linux.intelRdt`: groups of the resctrl file system (config-linux.md, "IntelRdt").
//!
//! ```text
//! <resctrl>/<closID or container ID>/            class of service: schemata, tasks
//! <resctrl>/<closID>/mon_groups/<container ID>/  what the container uses: tasks
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::plan::RdtRequest;
use crate::{Error, Result};

/// The groups that a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Groups {
    /// Those whose `tasks` the process joins, in this order.
    joined: Vec<PathBuf>,
    /// Those that go with the container.
    own: Vec<PathBuf>,
    /// Those that were not there before: also a named class, which stays.
    #[serde(skip)]
    made: Vec<PathBuf>,
}

/// Where a resctrl file system is mounted, as of a mountinfo.
pub(crate) fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let is_resctrl = system.split(' ').next() == Some("resctrl");
        is_resctrl.then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// The mounted resctrl file system of this machine.
pub(crate) fn detect() -> Result<PathBuf> {
    let path = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    mount_point(&text).ok_or_else(|| {
        Error::config(
            "linux.intelRdt",
            "no resctrl file system is mounted: Intel RDT is not supported or not enabled",
        )
    })
}

impl Groups {
    /// Makes or checks the groups. On an error what was made is gone again.
    pub(crate) fn create(resctrl: &Path, request: &RdtRequest) -> Result<Groups> {
        let mut groups = Groups::default();
        match groups.make(resctrl, request) {
            Ok(()) => Ok(groups),
            Err(error) => {
                // What went wrong first is what to report.
                drop(groups.undo());
                Err(error)
            }
        }
    }

    /// A class that was made for a container which ran already; it goes with that.
    pub(crate) fn made_later(class: PathBuf) -> Groups {
        Groups { joined: vec![class.clone()], own: vec![class], made: Vec::new() }
    }

    /// The class of service.
    pub(crate) fn class(&self) -> Option<&Path> {
        self.joined.first().map(PathBuf::as_path)
    }

    /// Removes all that was made, for a container that could not be.
    pub(crate) fn undo(&self) -> Result<()> {
        remove_all(&self.made)
    }

    fn make(&mut self, resctrl: &Path, request: &RdtRequest) -> Result<()> {
        let writes = !request.schemata.is_empty();
        let class = match &request.clos {
            Some(clos) => resctrl.join(clos),
            None => resctrl.join(&request.id),
        };
        let field = "linux.intelRdt.closID";
        let there = class.is_dir();
        match (&request.clos, there, writes) {
            (None, true, _) => {
                return Err(Error::config(field, format!("{} is there already", class.display())));
            }
            (Some(_), false, false) => {
                return Err(Error::config(
                    field,
                    format!(
                        "{} does not exist, and no schema is given to make it",
                        class.display()
                    ),
                ));
            }
            (Some(_), true, true) => check_same(&class, request)?,
            (Some(_), true, false) => {}
            (_, false, _) => {
                self.make_group(&class)?;
                if request.clos.is_none() {
                    self.own.push(class.clone());
                }
                for text in &request.schemata {
                    write_schemata(resctrl, &class, text)?;
                }
            }
        }
        self.joined.push(class.clone());
        if request.monitor {
            let group = class.join("mon_groups").join(&request.id);
            self.make_group(&group)?;
            self.joined.push(group.clone());
            self.own.push(group);
        }
        Ok(())
    }

    /// The files that a process enters the groups by.
    pub(crate) fn open(&self) -> Result<Vec<File>> {
        let open = |group: &PathBuf| {
            let path = group.join("tasks");
            let file = File::options().write(true).open(&path);
            file.map_err(|e| Error::io("open", &path, &e))
        };
        self.joined.iter().map(open).collect()
    }

    /// Removes those that go with the container, and says the first that could not be.
    pub(crate) fn remove(&self) -> Result<()> {
        remove_all(&self.own)
    }

    fn make_group(&mut self, path: &Path) -> Result<()> {
        std::fs::create_dir(path).map_err(|e| Error::io("mkdir", path, &e))?;
        self.made.push(path.to_owned());
        Ok(())
    }
}

fn remove_all(groups: &[PathBuf]) -> Result<()> {
    let mut first = Ok(());
    // Monitoring groups are in their class, so they go first.
    for group in groups.iter().rev() {
        match std::fs::remove_dir(group) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) if first.is_ok() => first = Err(Error::io("rmdir", group, &e)),
            Err(_) => {}
        }
    }
    first
}

fn write_schemata(resctrl: &Path, class: &Path, text: &str) -> Result<()> {
    let path = class.join("schemata");
    std::fs::write(&path, text).map_err(|e| {
        // The kernel says what it did not like in a file of its own.
        let said = std::fs::read_to_string(resctrl.join("info/last_cmd_status"));
        let said = said.unwrap_or_default();
        match said.trim() {
            "" | "ok" => Error::io("write", &path, &e),
            words => Error::config(
                "linux.intelRdt",
                format!("{} does not take {:?}: {words}", path.display(), text.trim()),
            ),
        }
    })
}

/// A class that somebody else made must be as the configuration wants it.
fn check_same(class: &Path, request: &RdtRequest) -> Result<()> {
    let path = class.join("schemata");
    let there = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
    // Of two values for one domain the later one would hold.
    let mut wanted = Vec::<(String, u64)>::new();
    for (key, value) in request.schemata.iter().flat_map(|text| values(text)) {
        wanted.retain(|(other, _)| *other != key);
        wanted.push((key, value));
    }
    let there: Vec<(String, u64)> = values(&there).collect();
    match wanted.iter().find(|value| !there.contains(value)) {
        None => Ok(()),
        Some((key, _)) => Err(Error::config(
            "linux.intelRdt",
            format!("{} exists, and its {key} is another than configured", path.display()),
        )),
    }
}

/// The values of `L3:0=7f0;1=1f` and so on, by `L3:0`, `L3:1`. Bit masks are hexadecimal,
/// bandwidths decimal.
fn values(schemata: &str) -> impl Iterator<Item = (String, u64)> {
    schemata.lines().filter_map(|line| line.split_once(':')).flat_map(|(resource, domains)| {
        let resource = resource.trim().to_owned();
        let radix =
            if resource.starts_with("MB") || resource.starts_with("SMBA") { 10 } else { 16 };
        domains.split(';').filter_map(move |domain| {
            let (id, value) = domain.split_once('=')?;
            let value = u64::from_str_radix(value.trim(), radix).ok()?;
            Some((format!("{resource}:{}", id.trim()), value))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for a resctrl file system.
    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str) -> Fake {
            let path = std::env::temp_dir().join(format!("hako-rdt-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("there/mon_groups")).unwrap();
            std::fs::write(
                path.join("there/schemata"),
                "    L3:0=00ff;1=ffff\n    MB:0= 50;1=100\n",
            )
            .unwrap();
            Fake(path)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn request(clos: Option<&str>, schemata: &[&str], monitor: bool) -> RdtRequest {
        RdtRequest {
            clos: clos.map(str::to_owned),
            id: "c1".into(),
            schemata: schemata.iter().map(|s| (*s).to_owned()).collect(),
            monitor,
        }
    }

    #[test]
    fn a_class_of_its_own_goes_with_the_container() {
        let fake = Fake::new("own");
        let schemata = ["L3:0=f\nMB:0=10\n", "L2:0=1\n"];
        let groups = Groups::create(&fake.0, &request(None, &schemata, false)).unwrap();
        let class = fake.0.join("c1");
        // The last of two writes is what a plain file keeps.
        assert_eq!(std::fs::read_to_string(class.join("schemata")).unwrap(), "L2:0=1\n");
        assert!(groups.open().is_err(), "a kernel would have made `tasks`");
        std::fs::write(class.join("tasks"), "").unwrap();
        assert_eq!(groups.open().unwrap().len(), 1);
        // The kernel removes a group with its files.
        assert!(groups.remove().is_err());
        std::fs::remove_file(class.join("tasks")).unwrap();
        std::fs::remove_file(class.join("schemata")).unwrap();
        groups.remove().unwrap();
        groups.remove().unwrap();
        assert!(!class.exists());
    }

    #[test]
    fn a_named_class_stays_and_its_monitoring_group_goes() {
        let fake = Fake::new("named");
        let groups = Groups::create(&fake.0, &request(Some("there"), &[], true)).unwrap();
        let group = fake.0.join("there/mon_groups/c1");
        assert_eq!(groups.joined, [fake.0.join("there"), group.clone()]);
        groups.remove().unwrap();
        assert!(!group.exists() && fake.0.join("there").exists());
    }

    #[test]
    fn a_class_that_is_there_must_be_as_configured() {
        let fake = Fake::new("same");
        for same in ["L3:0=ff;1=ffff\n", "L3:0=0ff\nMB:1=100\n", "MB:0=50\n"] {
            assert!(Groups::create(&fake.0, &request(Some("there"), &[same], false)).is_ok());
        }
        for other in ["L3:0=7f\n", "L2:0=ff\n", "MB:0=51\n"] {
            let error = Groups::create(&fake.0, &request(Some("there"), &[other], false));
            assert!(error.unwrap_err().to_string().contains("another"), "{other}");
        }
        assert!(Groups::create(&fake.0, &request(Some("missing"), &[], false)).is_err());
        assert!(!fake.0.join("missing").exists());
    }

    #[test]
    fn what_was_made_before_a_failure_is_gone() {
        let fake = Fake::new("undo");
        // No `mon_groups` in a class that is only a directory.
        assert!(Groups::create(&fake.0, &request(None, &[], true)).is_err());
        assert!(!fake.0.join("c1").exists());
    }

    #[test]
    fn resctrl_is_found_by_its_type() {
        let line =
            "36 25 0:31 / /sys/fs/resctrl rw,relatime shared:13 - resctrl resctrl rw,mba_MBps";
        assert_eq!(mount_point(line), Some("/sys/fs/resctrl".into()));
        assert_eq!(mount_point("36 25 0:31 / /resctrl rw - tmpfs resctrl rw"), None);
    }
}
