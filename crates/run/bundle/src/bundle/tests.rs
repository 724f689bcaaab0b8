use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hako_oci::runtime::{Device, Mount, SeccompRule};

use super::*;
use crate::Machine;
use crate::device::HostDevice;
use crate::options::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n";

/// What a test varies.
#[derive(Default)]
struct Case {
    options: RunOptions,
    image: ContainerConfig,
    volumes: BTreeMap<String, PathBuf>,
    containers: BTreeMap<String, Neighbour>,
    devices: Vec<HostDevice>,
    cgroup_v2: bool,
    old_kernel: bool,
}

fn neighbour(pid: i32) -> Neighbour {
    Neighbour {
        pid,
        hostname: "db-host".into(),
        files_dir: PathBuf::from(format!("/containers/{pid}")),
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

impl Case {
    /// Runs `/bin/sh` of an image that says nothing, with these options.
    fn new(change: impl FnOnce(&mut RunOptions)) -> Case {
        let mut options = RunOptions { command: strings(&["/bin/sh"]), ..RunOptions::default() };
        change(&mut options);
        Case { options, ..Case::default() }
    }

    fn bundle(&self) -> Result<Bundle, Error> {
        let machine = Machine {
            hostname: "host".into(),
            cpus: BTreeSet::from([0, 1]),
            mems: BTreeSet::from([0]),
            cgroup_v2: self.cgroup_v2,
            capabilities: u64::MAX,
            kernel: if self.old_kernel { (5, 10) } else { (6, 18) },
            masked_paths: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
            hosts: "10.0.0.9\thost\n".into(),
            resolv_conf: "nameserver 10.0.0.1\n".into(),
        };
        let facts = Facts {
            id: ID,
            passwd: PASSWD,
            group: b"",
            files_dir: Path::new("/state/c"),
            volumes: &self.volumes,
            containers: &self.containers,
            machine: &machine,
        };
        decide(&self.options, &self.image, &facts, &self.devices)
    }

    fn spec(&self) -> Spec {
        self.bundle().unwrap().spec
    }

    fn process(&self) -> Process {
        self.spec().process.unwrap()
    }

    fn linux(&self) -> Linux {
        self.spec().linux.unwrap()
    }

    fn mount(&self, destination: &str) -> Option<Mount> {
        self.spec().mounts.into_iter().find(|mount| mount.destination == destination)
    }

    fn error(&self) -> String {
        self.bundle().unwrap_err().to_string()
    }
}

#[test]
fn entrypoint_and_command_are_merged_as_docker_does() {
    let image_both = (Some(&["/entry", "a"][..]), Some(&["cmd"][..]));
    for ((entrypoint, cmd), asked, words, expected) in [
        (image_both, None, &[][..], Some(&["/entry", "a", "cmd"][..])),
        (image_both, None, &["x", "y"], Some(&["/entry", "a", "x", "y"])),
        (image_both, Some(&["/mine"][..]), &[], Some(&["/mine"])),
        (image_both, Some(&["/mine"]), &["x"], Some(&["/mine", "x"])),
        (image_both, Some(&[""]), &["x"], Some(&["x"])),
        (image_both, Some(&[""]), &[], None),
        ((None, Some(&["sh", "-c", "x y"])), None, &[], Some(&["sh", "-c", "x y"])),
        ((None, None), None, &["x"], Some(&["x"])),
        ((None, None), None, &[], None),
        ((Some(&[]), Some(&[])), None, &[], None),
        ((None, Some(&[""])), None, &[], None),
    ] {
        let mut case = Case::new(|o| {
            o.command = strings(words);
            o.entrypoint = asked.map(strings);
        });
        case.image.entrypoint = entrypoint.map(strings);
        case.image.cmd = cmd.map(strings);
        match expected {
            Some(expected) => assert_eq!(case.process().args, strings(expected)),
            None => assert_eq!(case.error(), "no command specified"),
        }
    }
    let nul = Case::new(|o| o.command = strings(&["a\0b"]));
    assert_eq!(nul.error(), "argument \"a\\0b\" contains a NUL byte");
}

#[test]
fn init_stands_before_the_command() {
    let bundle = Case::new(|o| o.init = true).bundle().unwrap();
    let args = bundle.spec.process.unwrap().args;
    assert_eq!(args, strings(&["/sbin/docker-init", "--", "/bin/sh"]));
    assert_eq!((bundle.init, bundle.args), (true, strings(&["/bin/sh"])));
}

#[test]
fn environment_is_dockers() {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let host = "HOSTNAME=0123456789ab";
    let set = |name: &str, value: &str| EnvChange::Set(name.into(), value.into());
    for (image, changes, tty, expected) in [
        (&[][..], vec![], false, vec![path, host, "HOME=/root"]),
        (&[], vec![], true, vec![path, host, "TERM=xterm", "HOME=/root"]),
        (
            &["PATH=/x", "A=1"],
            vec![set("A", "2"), set("B", "")],
            false,
            vec!["PATH=/x", host, "A=2", "B=", "HOME=/root"],
        ),
        (&["A=1"], vec![EnvChange::Unset("A".into())], false, vec![path, host, "HOME=/root"]),
        (&["HOME=/h"], vec![], false, vec![path, host, "HOME=/h"]),
        (&[], vec![set("HOME", "")], false, vec![path, host, "HOME=/root"]),
        (&[], vec![set("TERM", "vt100")], true, vec![path, host, "TERM=vt100", "HOME=/root"]),
    ] {
        let mut case = Case::new(|o| {
            o.env = changes;
            o.tty = tty;
        });
        case.image.env = strings(image);
        assert_eq!(case.process().env, strings(&expected));
    }
    let mut case = Case::new(|_| {});
    case.image.env = strings(&["A=\0"]);
    assert!(case.error().contains("NUL"));
}

#[test]
fn user_is_the_options_or_the_images() {
    let who = |image: &str, asked: Option<&str>| {
        let mut case = Case::new(|o| o.user = asked.map(str::to_owned));
        case.image.user = image.into();
        let process = case.process();
        let home = process.env.iter().find(|e| e.starts_with("HOME=")).unwrap().clone();
        let caps = process.capabilities.unwrap();
        (process.user.uid, process.user.gid, home, caps.effective.len(), caps.bounding.len())
    };
    assert_eq!(who("", None), (0, 0, "HOME=/root".into(), 14, 14));
    assert_eq!(who("www", None), (33, 33, "HOME=/var/www".into(), 0, 14));
    assert_eq!(who("www", Some("0")), (0, 0, "HOME=/root".into(), 14, 14));
    assert_eq!(who("www", Some("5:6")), (5, 6, "HOME=/".into(), 0, 14));
    assert!(Case::new(|o| o.user = Some("-1".into())).error().contains("range 0-2147483647"));
}

#[test]
fn capabilities_are_three_sets_and_never_inheritable() {
    let caps = Case::new(|o| {
        o.cap_drop = strings(&["ALL"]);
        o.cap_add = strings(&["CAP_NET_RAW"]);
    })
    .process()
    .capabilities
    .unwrap();
    let one = strings(&["CAP_NET_RAW"]);
    assert_eq!((&caps.bounding, &caps.effective, &caps.permitted), (&one, &one, &one));
    assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
}

#[test]
fn hostname_is_checked_and_the_hosts_where_shared() {
    let name = |change: fn(&mut RunOptions)| {
        let bundle = Case::new(change).bundle().unwrap();
        (bundle.hostname, bundle.spec.hostname)
    };
    let own = |name: &str| (name.to_owned(), Some(name.to_owned()));
    assert_eq!(name(|_| {}), own("0123456789ab"));
    assert_eq!(name(|o| o.hostname = Some("web.example".into())), own("web.example"));
    assert_eq!(name(|o| o.network = NetworkMode::Host), own("host"));
    assert_eq!(name(|o| o.uts = NamespaceMode::Host), ("host".into(), None));
    for (hostname, ok) in [
        ("a", true),
        ("a_b-c.d", true),
        ("-a", false),
        ("a b", false),
        ("a\nb", false),
        ("a/b", false),
        (&"a".repeat(65), false),
    ] {
        let case = Case::new(|o| o.hostname = Some(hostname.into()));
        assert_eq!(case.bundle().is_ok(), ok, "{hostname}");
    }
    let conflict = Case::new(|o| {
        o.hostname = Some("a".into());
        o.uts = NamespaceMode::Host;
    });
    assert_eq!(conflict.error(), "conflicting options: hostname and the UTS mode");
}

#[test]
fn workdir_must_be_absolute() {
    let cwd = |image: &str, asked: Option<&str>| {
        let mut case = Case::new(|o| o.workdir = asked.map(str::to_owned));
        case.image.working_dir = image.into();
        case.bundle().map(|b| b.spec.process.unwrap().cwd).map_err(|e| e.to_string())
    };
    assert_eq!(cwd("", None), Ok("/".into()));
    assert_eq!(cwd("/app/", None), Ok("/app".into()));
    assert_eq!(cwd("/app", Some("/x/../y")), Ok("/y".into()));
    let error = "the working directory 'x' is invalid, it needs to be an absolute path";
    assert_eq!(cwd("", Some("x")), Err(error.into()));
}

#[test]
fn default_mounts_are_dockers() {
    let spec = Case::new(|_| {}).spec();
    let destinations: Vec<&str> = spec.mounts.iter().map(|m| &*m.destination).collect();
    let expected = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/sys",
        "/sys/fs/cgroup",
        "/dev/mqueue",
        "/dev/shm",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/hosts",
    ];
    assert_eq!(destinations, expected);
    let shm = &spec.mounts[6];
    assert_eq!(shm.options, ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]);
    let hosts = &spec.mounts[9];
    assert_eq!(hosts.source.as_deref(), Some("/state/c/hosts"));
    assert_eq!(hosts.options, ["rbind", "rprivate", "rw"]);
    let linux = spec.linux.unwrap();
    assert_eq!((linux.masked_paths.len(), linux.readonly_paths.len()), (13, 5));
    assert_eq!(linux.cgroups_path.as_deref(), Some(&*format!("/hako/{ID}")));
    assert_eq!(linux.rootfs_propagation, None);
}

#[test]
fn shm_follows_the_ipc_mode() {
    let shm = |ipc, bytes| {
        Case::new(|o| {
            o.ipc = ipc;
            o.shm_bytes = bytes;
        })
        .mount("/dev/shm")
        .map(|m| (m.kind.unwrap(), m.options.last().unwrap().clone()))
    };
    let tmpfs = |size: &str| Some(("tmpfs".to_owned(), size.to_owned()));
    assert_eq!(shm(IpcMode::Private, None), tmpfs("size=67108864"));
    assert_eq!(shm(IpcMode::Shareable, Some(1024)), tmpfs("size=1024"));
    assert_eq!(shm(IpcMode::None, None), None);
    assert_eq!(shm(IpcMode::Host, None), Some(("bind".into(), "rprivate".into())));
    let joined = Case::new(|o| o.ipc = IpcMode::Container("x".into()));
    assert!(joined.error().starts_with("cannot join the ipc namespace of x"));
}

fn request(target: &str, source: MountSource, readonly: bool) -> MountRequest {
    MountRequest { target: target.into(), source, readonly }
}

fn bind(path: &str, recursive: BindRecursive) -> Bind {
    Bind { path: path.into(), create: false, propagation: None, recursive, relabel: None }
}

#[test]
fn binds_become_mounts() {
    use BindRecursive::*;
    for (readonly, recursive, old_kernel, expected) in [
        (false, Enabled, false, ["rbind", "rprivate", "rw"]),
        (true, Enabled, false, ["rbind", "rprivate", "rro"]),
        (true, Enabled, true, ["rbind", "rprivate", "ro"]),
        (true, Writable, false, ["rbind", "rprivate", "ro"]),
        (true, Readonly, true, ["rbind", "rprivate", "rro"]),
        (true, Disabled, false, ["bind", "rprivate", "ro"]),
        (false, Disabled, false, ["bind", "rprivate", "rw"]),
    ] {
        let source = MountSource::Bind(bind("/src", recursive));
        let mut case = Case::new(|o| o.mounts = vec![request("/b", source, readonly)]);
        case.old_kernel = old_kernel;
        let mount = case.mount("/b").unwrap();
        assert_eq!(mount.options, expected);
        assert_eq!(mount.source.as_deref(), Some("/src"));
    }
    let shared = Bind { propagation: Some("rshared".into()), ..bind("/src", Enabled) };
    let case = Case::new(|o| o.mounts = vec![request("/b", MountSource::Bind(shared), false)]);
    assert_eq!(case.linux().rootfs_propagation.as_deref(), Some("shared"));
}

#[test]
fn user_mounts_replace_defaults_and_come_in_order() {
    let tmpfs = |options: &[&str]| MountSource::Tmpfs(Tmpfs { options: strings(options) });
    let case = Case::new(|o| {
        o.mounts = vec![
            request("/a/b", tmpfs(&[]), false),
            request("/a", tmpfs(&["exec", "size=1m"]), false),
            request("/dev/shm", tmpfs(&[]), true),
            request("/etc/hosts", MountSource::Bind(bind("/h", BindRecursive::Enabled)), false),
        ];
    });
    let spec = case.spec();
    let at = |target: &str| {
        let found: Vec<usize> =
            (0..spec.mounts.len()).filter(|&i| spec.mounts[i].destination == target).collect();
        assert_eq!(found.len(), 1, "{target}");
        found[0]
    };
    assert!(at("/a") < at("/a/b"));
    assert_eq!(spec.mounts[at("/a")].options, ["nosuid", "nodev", "rprivate", "exec", "size=1m"]);
    let shm = ["noexec", "nosuid", "nodev", "rprivate", "ro"];
    assert_eq!(spec.mounts[at("/dev/shm")].options, shm);
    assert_eq!(spec.mounts[at("/etc/hosts")].source.as_deref(), Some("/h"));

    let dev = Case::new(|o| {
        let source = MountSource::Bind(bind("/dev", BindRecursive::Enabled));
        o.mounts = vec![request("/dev", source, false)];
    });
    assert!(dev.spec().mounts.iter().all(|m| !m.destination.starts_with("/dev/")));

    let twice = Case::new(|o| {
        o.mounts = vec![request("/a", tmpfs(&[]), false), request("/a", tmpfs(&[]), false)];
    });
    assert_eq!(twice.error(), "Duplicate mount point: /a");
}

#[test]
fn volumes_are_resolved_or_refused() {
    let volume = |name: Option<&str>| {
        MountSource::Volume(VolumeRef { name: name.map(str::to_owned), ..VolumeRef::default() })
    };
    let mut case = Case::new(|o| {
        o.mounts = vec![
            request("/data", volume(Some("v1")), true),
            request("/anonymous", volume(None), false),
        ];
    });
    assert!(case.error().starts_with("volume \"v1\" cannot be mounted"));
    case.volumes = [("v1".into(), "/volumes/v1".into())].into();
    assert!(case.error().starts_with("volume at \"/anonymous\" cannot be made"));
    case.volumes.insert("/anonymous".into(), "/volumes/x".into());
    case.volumes.insert("/of/image".into(), "/volumes/y".into());
    case.image.volumes = [("/of/image/".into(), serde_json::json!({}))].into();
    assert_eq!(case.mount("/data").unwrap().source.as_deref(), Some("/volumes/v1"));
    assert_eq!(case.mount("/data").unwrap().options, ["rbind", "rprivate", "ro"]);
    assert_eq!(case.mount("/anonymous").unwrap().source.as_deref(), Some("/volumes/x"));
    assert_eq!(case.mount("/of/image").unwrap().source.as_deref(), Some("/volumes/y"));
}

#[test]
fn privileged_takes_the_walls_down() {
    let mut case = Case::new(|o| o.privileged = true);
    let device = Device { kind: "c".into(), path: "/dev/x".into(), ..Device::default() };
    case.devices = vec![HostDevice { device, access: "rwm".into() }];
    let spec = case.spec();
    let linux = spec.linux.unwrap();
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert_eq!(linux.seccomp, None);
    assert_eq!(linux.devices.len(), 1);
    assert_eq!(linux.resources.unwrap().devices, [device_rule(true, "a", -1, -1, "rwm")]);
    assert_eq!(spec.process.unwrap().capabilities.unwrap().bounding.len(), 41);
    let read_only = |target: &str| case.mount(target).unwrap().options.contains(&"ro".to_owned());
    assert!(!read_only("/sys") && !read_only("/sys/fs/cgroup"));
}

#[test]
fn devices_are_given_and_allowed() {
    let mut case = Case::new(|o| {
        o.device_rules = vec![crate::device::parse_rule("b 8:* r").unwrap()];
    });
    let device = Device {
        kind: "c".into(),
        path: "/dev/fuse".into(),
        major: Some(10),
        minor: Some(229),
        ..Device::default()
    };
    case.devices = vec![HostDevice { device: device.clone(), access: "rw".into() }];
    let linux = case.linux();
    assert_eq!(linux.devices, [device]);
    let rules = linux.resources.unwrap().devices;
    assert_eq!(rules[0], device_rule(false, "a", -1, -1, "rwm"));
    assert_eq!(rules[rules.len() - 2], device_rule(true, "c", 10, 229, "rw"));
    assert_eq!(rules[rules.len() - 1].minor, Some(-1));
}

#[test]
fn namespaces_are_new_joined_or_the_hosts() {
    let kinds = |case: Case| -> Vec<String> {
        case.linux()
            .namespaces
            .into_iter()
            .map(|n| n.kind + &n.path.map(|p| format!("={p}")).unwrap_or_default())
            .collect()
    };
    assert_eq!(kinds(Case::new(|_| {})), ["mount", "network", "uts", "pid", "ipc"]);
    let v2 = Case { cgroup_v2: true, ..Case::new(|_| {}) };
    assert_eq!(kinds(v2), ["mount", "network", "uts", "pid", "ipc", "cgroup"]);
    let private = Case::new(|o| o.cgroupns = Some(CgroupnsMode::Private));
    assert_eq!(kinds(private), ["mount", "network", "uts", "pid", "ipc", "cgroup"]);
    let host = Case::new(|o| {
        o.network = NetworkMode::Host;
        o.pid = NamespaceMode::Host;
        o.uts = NamespaceMode::Host;
        o.ipc = IpcMode::Host;
        o.cgroupns = Some(CgroupnsMode::Host);
    });
    assert_eq!(kinds(host), ["mount"]);
    let join = || {
        Case::new(|o| {
            o.network = NetworkMode::Container("db".into());
            o.pid = NamespaceMode::Container("db".into());
        })
    };
    let error = "cannot join the network namespace of db: no such running container";
    assert_eq!(join().error(), error);
    let joined = Case { containers: [("db".into(), neighbour(42))].into(), ..join() };
    let expected = ["mount", "network=/proc/42/ns/net", "uts", "pid=/proc/42/ns/pid", "ipc"];
    assert_eq!(kinds(joined), expected);
}

#[test]
fn who_joins_a_container_has_its_names_and_its_shared_memory() {
    let case = Case {
        containers: [("db".into(), neighbour(42))].into(),
        ..Case::new(|o| {
            o.network = NetworkMode::Container("db".into());
            o.ipc = IpcMode::Container("db".into());
        })
    };
    let bundle = case.bundle().unwrap();
    assert_eq!((bundle.hostname.as_str(), bundle.files.len()), ("db-host", 0));
    let source = |target: &str| {
        let mount = bundle.spec.mounts.iter().find(|mount| mount.destination == target).unwrap();
        mount.source.clone().unwrap()
    };
    assert_eq!(source("/etc/hosts"), "/containers/42/hosts");
    assert_eq!(source("/dev/shm"), "/proc/42/root/dev/shm");
}

#[test]
fn sysctls_are_dockers_and_the_users() {
    let sysctl = |change: fn(&mut RunOptions)| Case::new(change).linux().sysctl;
    assert_eq!(sysctl(|_| {}).len(), 2);
    assert!(sysctl(|o| o.network = NetworkMode::Host).is_empty());
    let low = sysctl(|o| {
        o.sysctls = [("net.ipv4.ip_unprivileged_port_start".into(), "1024".into())].into();
    });
    assert_eq!(low["net.ipv4.ip_unprivileged_port_start"], "1024");
    let host = Case::new(|o| {
        o.network = NetworkMode::Host;
        o.sysctls = [("net.core.somaxconn".into(), "1".into())].into();
    });
    let error = "sysctl \"net.core.somaxconn\" is not allowed in the host's network namespace";
    assert_eq!(host.error(), error);
}

#[test]
fn the_small_ones() {
    let bundle = Case::new(|o| {
        o.rootfs_readonly = true;
        o.security.no_new_privileges = true;
        o.security.system_paths_unconfined = true;
        o.security.apparmor = Some("unconfined".into());
        o.oom_score_adj = Some(500);
        o.stop_timeout_seconds = Some(-1);
        o.labels = [("a".into(), "1".into())].into();
        o.annotations = [("b".into(), "2".into())].into();
        o.cgroup_parent = Some("/other".into());
    })
    .bundle()
    .unwrap();
    assert_eq!((bundle.stop_signal, bundle.stop_timeout_seconds), (15, -1));
    assert_eq!(bundle.labels["a"], "1");
    let spec = bundle.spec;
    assert_eq!(spec.annotations["b"], "2");
    assert!(spec.root.unwrap().readonly);
    let process = spec.process.unwrap();
    assert!(process.no_new_privileges);
    assert_eq!((process.apparmor_profile, process.oom_score_adj), (None, Some(500)));
    let linux = spec.linux.unwrap();
    assert!(linux.masked_paths.is_empty());
    assert_eq!(linux.cgroups_path, Some(format!("/other/{ID}")));

    let error = "Invalid value 1001, range for oom score adj is [-1000, 1000]";
    assert_eq!(Case::new(|o| o.oom_score_adj = Some(1001)).error(), error);

    let mut case = Case::new(|_| {});
    case.image.stop_signal = Some("SIGQUIT".into());
    case.image.labels = [("a".into(), "image".into())].into();
    let bundle = case.bundle().unwrap();
    assert_eq!((bundle.stop_signal, &*bundle.labels["a"]), (3, "image"));
    case.options.stop_signal = Some(9);
    case.options.labels = [("a".into(), "user".into())].into();
    let bundle = case.bundle().unwrap();
    assert_eq!((bundle.stop_signal, &*bundle.labels["a"]), (9, "user"));
    let mut wrong = Case::new(|_| {});
    wrong.image.stop_signal = Some("SIGFOO".into());
    assert_eq!(wrong.error(), "invalid signal: SIGFOO");
}

#[test]
fn seccomp_is_dockers_unless_told_otherwise() {
    let seccomp = |change: fn(&mut RunOptions)| Case::new(change).linux().seccomp;
    let allows = |profile: &Option<Seccomp>, name: &str| {
        let allow = |r: &&SeccompRule| r.action == "SCMP_ACT_ALLOW" && r.args.is_empty();
        let mut rules = profile.as_ref().unwrap().syscalls.iter().filter(allow);
        rules.any(|rule| rule.names.iter().any(|n| n == name))
    };
    let default = seccomp(|_| {});
    assert!(allows(&default, "read") && !allows(&default, "reboot") && !allows(&default, "mount"));
    // The profile follows the capabilities.
    let admin = seccomp(|o| o.cap_add = strings(&["CAP_SYS_ADMIN", "CAP_SYS_BOOT"]));
    assert!(allows(&admin, "mount") && allows(&admin, "reboot"));
    let none = |o: &mut RunOptions| o.security.seccomp = SeccompChoice::Unconfined;
    assert_eq!(seccomp(none), None);
    let own = seccomp(|o| {
        o.security.set_seccomp_profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"kill","action":"SCMP_ACT_ERRNO"}]}"#
                .into(),
        );
        o.privileged = true;
    });
    let own = own.unwrap();
    assert_eq!(own.default_action, "SCMP_ACT_ALLOW");
    assert_eq!((&*own.syscalls[0].action, &*own.syscalls[0].names[0]), ("SCMP_ACT_ERRNO", "kill"));
    let broken = Case::new(|o| o.security.set_seccomp_profile("{".into()));
    assert!(broken.error().starts_with("decode the seccomp profile"));
}

#[test]
fn what_can_be_checked_is_checked_before() {
    let machine = Machine::probe().unwrap();
    let check = |change: fn(&mut RunOptions)| {
        let case = Case::new(change);
        check(&case.options, &case.image, &machine).map_err(|e| e.to_string())
    };
    assert_eq!(check(|_| {}), Ok(()));
    assert_eq!(check(|o| o.user = Some("somebody:some".into())), Ok(()));
    assert_eq!(check(|o| o.group_add = strings(&["some"])), Ok(()));
    assert_eq!(check(|o| o.pid = NamespaceMode::Container("x".into())), Ok(()));
    assert_eq!(check(|o| o.command.clear()), Err("no command specified".into()));
    assert!(check(|o| o.user = Some("-1".into())).is_err());
    assert!(check(|o| o.limits.memory_bytes = Some(1)).is_err());
}

#[test]
fn inspect_shows_the_environment_without_defaults() {
    let mut case = Case::new(|o| o.env = vec![EnvChange::Set("B".into(), "2".into())]);
    case.image.env = strings(&["A=1"]);
    assert_eq!(environment(&case.options, &case.image), ["A=1", "B=2"]);
}

#[test]
fn files_of_the_container() {
    let files = Case::new(|_| {}).bundle().unwrap().files;
    let text = |name: &str| {
        let (_, bytes) = files.iter().find(|(n, _)| *n == name).unwrap();
        String::from_utf8(bytes.clone()).unwrap()
    };
    assert_eq!(files.len(), 3);
    assert_eq!(text("hostname"), "0123456789ab\n");
    assert_eq!(text("resolv.conf"), "nameserver 10.0.0.1\n");
    assert!(text("hosts").starts_with("127.0.0.1\tlocalhost"));
}

#[test]
fn options_survive_json() {
    let options = Case::new(|o| {
        o.mounts = vec![request("/a", MountSource::Tmpfs(Tmpfs::default()), true)];
        o.security.seccomp = SeccompChoice::Profile("{}".into());
        o.network = NetworkMode::Container("x".into());
        o.env = vec![EnvChange::Unset("A".into())];
        o.userns_host = true;
    })
    .options;
    let json = serde_json::to_string(&options).unwrap();
    assert_eq!(serde_json::from_str::<RunOptions>(&json).unwrap(), options);
    assert_eq!(serde_json::from_str::<RunOptions>("{}").unwrap(), RunOptions::default());
}
