//! The flags of `run` and `create`: each is one entry that owns its names, help and meaning.

use std::path::PathBuf;

use hako_engine::options;

use super::{Draft, Pull, Stream, about, from_environment, read};
use crate::flag::{Completes, Flag, Group, parse_integer};

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// Zero means "as if it were not given".
fn unless_zero(number: i64) -> Option<i64> {
    Some(number).filter(|n| *n != 0)
}

fn cwd() -> Result<PathBuf, String> {
    std::env::current_dir().map_err(|e| format!("working directory: {e}"))
}

/// All flags of `run`.
pub(in crate::verbs) const RUN: &[Group<Draft>] =
    &[ATTACHING, PROCESS, NAMING, FILES, PRIVILEGES, LIMITS, NAMESPACES, NETWORK, LOGGING];

/// All flags of `create`.
pub(in crate::verbs) const CREATE: &[Group<Draft>] =
    &[CREATING, PROCESS, NAMING, FILES, PRIVILEGES, LIMITS, NAMESPACES, NETWORK, LOGGING];

const INTERACTIVE: Flag<Draft> =
    Flag::switch("interactive", Some('i'), "Keep stdin open, even if not attached", |d, v| {
        d.options.stdin_open = v == "true";
        Ok(())
    });
const TTY: Flag<Draft> = Flag::switch("tty", Some('t'), "Give it a terminal", |d, v| {
    d.options.tty = v == "true";
    Ok(())
});
const ATTACH: Flag<Draft> = Flag::many(
    "attach",
    Some('a'),
    "list",
    "Attach to stdin, stdout or stderr",
    |d: &mut Draft, v| {
        d.attach.push(match v.to_ascii_lowercase().as_str() {
            "stdin" => Stream::Stdin,
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => return Err("valid streams are STDIN, STDOUT and STDERR".into()),
        });
        Ok(())
    },
)
.completes(Completes::Words(&["stdin", "stdout", "stderr"]));
const REMOVE: Flag<Draft> =
    Flag::switch("rm", None, "Remove the container when it has ended", |d, v| {
        d.auto_remove = v == "true";
        Ok(())
    });
const CIDFILE: Flag<Draft> = Flag::one(
    "cidfile",
    None,
    "string",
    "Write the container's ID to a file",
    |d: &mut Draft, v| {
        d.cidfile = Some(v.into());
        Ok(())
    },
)
.completes(Completes::File);
const PULL: Flag<Draft> = Flag::one(
    "pull",
    None,
    "string",
    "Fetch the image: \"always\", \"missing\" or \"never\" (default \"missing\")",
    |d: &mut Draft, v| {
        d.pull = match v {
            "always" => Pull::Always,
            "missing" => Pull::Missing,
            "never" => Pull::Never,
            _ => {
                let known = "must be one of \"always\", \"missing\" or \"never\"";
                return Err(format!("invalid pull option: '{v}': {known}"));
            }
        };
        Ok(())
    },
)
.completes(Completes::Words(&["always", "missing", "never"]));
const PLATFORM: Flag<Draft> =
    Flag::one("platform", None, "string", "Platform of the image, as linux/amd64", |d, v| {
        d.platform = Some(v.into());
        Ok(())
    });
const QUIET: Flag<Draft> =
    Flag::switch("quiet", Some('q'), "Say nothing of how the image is fetched", |d, v| {
        d.quiet = v == "true";
        Ok(())
    });

const ATTACHING: Group<Draft> = Group {
    heading: "How it is run",
    flags: &[
        INTERACTIVE,
        TTY,
        Flag::switch("detach", Some('d'), "Run in the background and print the ID", |d, v| {
            d.detach = v == "true";
            Ok(())
        }),
        REMOVE,
        ATTACH,
        Flag::one(
            "detach-keys",
            None,
            "string",
            "Keys that leave the container running (default \"ctrl-p,ctrl-q\")",
            |d, v| {
                d.detach_keys = Some(v.into());
                Ok(())
            },
        ),
        Flag::switch(
            "sig-proxy",
            None,
            "Hand signals to the container's process (default true)",
            |d, v| {
                d.no_sig_proxy = v != "true";
                Ok(())
            },
        ),
        CIDFILE,
        PULL,
        PLATFORM,
        QUIET,
    ],
};

const CREATING: Group<Draft> = Group {
    heading: "How it is run",
    flags: &[INTERACTIVE, TTY, REMOVE, ATTACH, CIDFILE, PULL, PLATFORM, QUIET],
};

const PROCESS: Group<Draft> = Group {
    heading: "Its process",
    flags: &[
        Flag::many(
            "env",
            Some('e'),
            "list",
            "Set a variable, or take NAME's value from here",
            |d, v| {
                d.env.push(options::env::parse(v, from_environment).map_err(text)?);
                Ok(())
            },
        ),
        Flag::many(
            "env-file",
            None,
            "list",
            "Set variables from the lines of a file",
            |d: &mut Draft, v| {
                d.env_files.push(v.into());
                Ok(())
            },
        )
        .completes(Completes::File),
        Flag::one("workdir", Some('w'), "string", "Working directory", |d, v| {
            d.options.workdir = Some(v.into());
            Ok(())
        }),
        Flag::one(
            "user",
            Some('u'),
            "string",
            "User by name or number, as user[:group]",
            |d, v| {
                d.options.user = Some(v.into());
                Ok(())
            },
        ),
        Flag::many("group-add", None, "list", "Another group to be in", |d, v| {
            d.options.group_add.push(v.into());
            Ok(())
        }),
        Flag::one("entrypoint", None, "string", "Replace the image's entry point", |d, v| {
            d.options.entrypoint = Some(vec![v.into()]);
            Ok(())
        }),
        Flag::switch(
            "init",
            None,
            "Let hako's init be PID 1: it forwards signals and reaps",
            |d, v| {
                d.options.init = v == "true";
                Ok(())
            },
        ),
        Flag::one("stop-signal", None, "string", "Signal that asks it to end", |d, v| {
            let signal = hako_engine::signal::parse(v);
            d.options.stop_signal = Some(signal.ok_or_else(|| format!("Invalid signal: {v}"))?);
            Ok(())
        }),
        Flag::one(
            "stop-timeout",
            None,
            "int",
            "Seconds until `stop` kills it; -1 waits",
            |d, v| {
                d.options.stop_timeout_seconds = Some(parse_integer(v)?);
                Ok(())
            },
        ),
    ],
};

const NAMING: Group<Draft> = Group {
    heading: "Names and labels",
    flags: &[
        Flag::one("name", None, "string", "Name of the container", |d, v| {
            d.name = Some(v.into());
            Ok(())
        }),
        Flag::one("hostname", Some('h'), "string", "Host name", |d, v| {
            d.options.hostname = Some(v.into());
            Ok(())
        }),
        Flag::one("domainname", None, "string", "NIS domain name", |d, v| {
            d.options.domainname = Some(v.into());
            Ok(())
        }),
        Flag::many("label", Some('l'), "list", "Set a label", |d, v| {
            d.labels.push(options::env::parse_label(v).map_err(text)?);
            Ok(())
        }),
        Flag::many(
            "label-file",
            None,
            "list",
            "Set labels from the lines of a file",
            |d: &mut Draft, v| {
                d.label_files.push(v.into());
                Ok(())
            },
        )
        .completes(Completes::File),
        Flag::many("annotation", None, "map", "Set an annotation of the OCI bundle", |d, v| {
            let (name, value) = options::env::parse_label(v).map_err(text)?;
            d.options.annotations.insert(name, value);
            Ok(())
        }),
    ],
};

const FILES: Group<Draft> = Group {
    heading: "Its file system",
    flags: &[
        Flag::many(
            "volume",
            Some('v'),
            "list",
            "Bind a directory: SOURCE:TARGET[:ro]",
            |d: &mut Draft, v| {
                d.options.mounts.push(options::mount::parse_volume(v, &cwd()?).map_err(text)?);
                Ok(())
            },
        )
        .completes(Completes::Directory),
        Flag::many(
            "mount",
            None,
            "mount",
            "Mount something: type=bind|tmpfs,source=…,target=…[,readonly]",
            |d, v| {
                d.options.mounts.push(options::mount::parse_mount(v, &cwd()?).map_err(text)?);
                Ok(())
            },
        ),
        Flag::many("tmpfs", None, "list", "Mount a tmpfs: TARGET[:OPTIONS]", |d, v| {
            d.options.mounts.push(options::mount::parse_tmpfs(v).map_err(text)?);
            Ok(())
        }),
        Flag::switch("read-only", None, "Make its root file system read-only", |d, v| {
            d.options.rootfs_readonly = v == "true";
            Ok(())
        }),
        Flag::one("shm-size", None, "bytes", "Size of /dev/shm (default 64m)", |d, v| {
            let bytes = options::quantity::parse_bytes(v).map_err(text)?;
            d.options.shm_bytes = u64::try_from(bytes).ok().filter(|n| *n > 0);
            Ok(())
        }),
        Flag::many(
            "device",
            None,
            "list",
            "Give it a device: HOST[:TARGET[:rwm]]",
            |d: &mut Draft, v| {
                d.options.devices.push(options::device::parse(v).map_err(text)?);
                Ok(())
            },
        )
        .completes(Completes::File),
        Flag::many("device-cgroup-rule", None, "list", "Allow devices, as 'c 42:* rmw'", |d, v| {
            d.options.device_rules.push(options::device::parse_rule(v).map_err(text)?);
            Ok(())
        }),
    ],
};

const PRIVILEGES: Group<Draft> = Group {
    heading: "Privileges",
    flags: &[
        Flag::many("cap-add", None, "list", "Give it a capability, or ALL", |d: &mut Draft, v| {
            d.options.cap_add.push(options::capability::parse(v).map_err(text)?);
            Ok(())
        })
        .completes(Completes::Words(options::capability::NAMES)),
        Flag::many(
            "cap-drop",
            None,
            "list",
            "Take a capability away, or ALL",
            |d: &mut Draft, v| {
                d.options.cap_drop.push(options::capability::parse(v).map_err(text)?);
                Ok(())
            },
        )
        .completes(Completes::Words(options::capability::NAMES)),
        Flag::switch(
            "privileged",
            None,
            "Give it everything: no isolation of privileges",
            |d, v| {
                d.options.privileged = v == "true";
                Ok(())
            },
        ),
        Flag::many(
            "security-opt",
            None,
            "list",
            "seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, systempaths=unconfined",
            |d, v| {
                let option = options::security::parse(v).map_err(text)?;
                if let Some(path) = d.options.security.set(option) {
                    let profile = String::from_utf8(read(&path)?).map_err(|e| about(&path, &e))?;
                    d.options.security.set_seccomp_profile(profile);
                }
                Ok(())
            },
        ),
        Flag::many("sysctl", None, "map", "Set a kernel parameter of its namespaces", |d, v| {
            let (name, value) = options::sysctl::parse(v).map_err(text)?;
            d.options.sysctls.insert(name, value);
            Ok(())
        }),
    ],
};

const LIMITS: Group<Draft> = Group {
    heading: "Limits",
    flags: &[
        Flag::one("memory", Some('m'), "bytes", "Memory", |d, v| {
            let bytes = options::quantity::parse_bytes(v).map_err(text)?;
            d.options.limits.memory_bytes = unless_zero(bytes);
            Ok(())
        }),
        Flag::one(
            "memory-swap",
            None,
            "bytes",
            "Memory and swap together; -1 for no limit",
            |d, v| {
                let bytes = options::quantity::parse_bytes_or_unlimited(v).map_err(text)?;
                d.options.limits.memory_swap_bytes = unless_zero(bytes);
                Ok(())
            },
        ),
        Flag::one("memory-reservation", None, "bytes", "Memory, when it is scarce", |d, v| {
            let bytes = options::quantity::parse_bytes(v).map_err(text)?;
            d.options.limits.memory_reservation_bytes = unless_zero(bytes);
            Ok(())
        }),
        Flag::one("memory-swappiness", None, "int", "Tendency to swap, 0 to 100", |d, v| {
            let number: i64 = parse_integer(v)?;
            d.options.limits.memory_swappiness = Some(number).filter(|n| *n != -1);
            Ok(())
        }),
        Flag::switch("oom-kill-disable", None, "Do not kill it for lack of memory", |d, v| {
            d.options.limits.oom_kill_disable = v == "true";
            Ok(())
        }),
        Flag::one(
            "oom-score-adj",
            None,
            "int",
            "Preference of the OOM killer, -1000 to 1000",
            |d, v| {
                d.options.oom_score_adj = Some(parse_integer(v)?);
                Ok(())
            },
        ),
        Flag::one("cpus", None, "decimal", "Number of processors, as 1.5", |d, v| {
            d.options.limits.nano_cpus =
                unless_zero(options::quantity::parse_cpus(v).map_err(text)?);
            Ok(())
        }),
        Flag::one("cpu-shares", Some('c'), "int", "Relative weight of processor time", |d, v| {
            d.options.limits.cpu_shares = unless_zero(parse_integer(v)?);
            Ok(())
        }),
        Flag::one("cpu-quota", None, "int", "Microseconds of processor time a period", |d, v| {
            d.options.limits.cpu_quota = unless_zero(parse_integer(v)?);
            Ok(())
        }),
        Flag::one("cpu-period", None, "int", "Microseconds of a period", |d, v| {
            d.options.limits.cpu_period = unless_zero(parse_integer(v)?);
            Ok(())
        }),
        Flag::one("cpuset-cpus", None, "string", "Processors it may use, as 0-3,7", |d, v| {
            d.options.limits.cpuset_cpus = Some(v.to_owned()).filter(|v| !v.is_empty());
            Ok(())
        }),
        Flag::one("cpuset-mems", None, "string", "Memory nodes it may use", |d, v| {
            d.options.limits.cpuset_mems = Some(v.to_owned()).filter(|v| !v.is_empty());
            Ok(())
        }),
        Flag::one("pids-limit", None, "int", "Number of processes; -1 for no limit", |d, v| {
            d.options.limits.pids = unless_zero(parse_integer(v)?);
            Ok(())
        }),
        Flag::one(
            "blkio-weight",
            None,
            "uint16",
            "Relative weight of block I/O, 10 to 1000",
            |d, v| {
                d.options.limits.blkio_weight = Some(parse_integer(v)?).filter(|n| *n != 0);
                Ok(())
            },
        ),
        Flag::many("ulimit", None, "ulimit", "Resource limit, as nofile=1024[:2048]", |d, v| {
            d.options.ulimits.push(options::ulimit::parse(v).map_err(text)?);
            Ok(())
        }),
        Flag::one("cgroup-parent", None, "string", "Cgroup to make its own beneath", |d, v| {
            d.options.cgroup_parent = Some(v.to_owned()).filter(|v| !v.is_empty());
            Ok(())
        }),
    ],
};

const NAMESPACES: Group<Draft> = Group {
    heading: "Namespaces",
    flags: &[
        Flag::one("pid", None, "string", "host, or container:NAME", |d, v| {
            d.options.pid = options::namespace::parse_pid(v).map_err(text)?;
            Ok(())
        }),
        Flag::one(
            "ipc",
            None,
            "string",
            "private, shareable, none, host, or container:NAME",
            |d, v| {
                d.options.ipc = options::namespace::parse_ipc(v).map_err(text)?;
                Ok(())
            },
        ),
        Flag::one("uts", None, "string", "host, or its own", |d, v| {
            d.options.uts = options::namespace::parse_uts(v).map_err(text)?;
            Ok(())
        }),
        Flag::one("userns", None, "string", "host (no other yet)", |d, v| {
            d.options.userns_host = options::namespace::parse_userns(v).map_err(text)?;
            Ok(())
        }),
        Flag::one("cgroupns", None, "string", "host or private", |d: &mut Draft, v| {
            d.options.cgroupns = options::namespace::parse_cgroupns(v).map_err(text)?;
            Ok(())
        })
        .completes(Completes::Words(&["host", "private"])),
    ],
};

fn no_ports(what: &str) -> String {
    format!(
        "cannot publish {what}: container networks are not supported yet; \
         with --network host the container's ports are the host's"
    )
}

const NETWORK: Group<Draft> = Group {
    heading: "Network",
    flags: &[
        Flag::one(
            "network",
            None,
            "network",
            "none: a loopback interface alone (default); host; or container:NAME",
            |d: &mut Draft, v| {
                d.options.network = options::namespace::parse_network(v).map_err(text)?;
                Ok(())
            },
        )
        .completes(Completes::Words(&["none", "host"])),
        Flag::many(
            "publish",
            Some('p'),
            "list",
            "Publish a port to the host (not in this version)",
            |_, v| Err(no_ports(v)),
        ),
        Flag::switch(
            "publish-all",
            Some('P'),
            "Publish all ports (not in this version)",
            |_, v| {
                if v == "true" { Err(no_ports("all")) } else { Ok(()) }
            },
        ),
        Flag::one("net", None, "network", "The same as --network", |d, v| {
            d.options.network = options::namespace::parse_network(v).map_err(text)?;
            Ok(())
        }),
        Flag::many(
            "add-host",
            None,
            "list",
            "Name an address in /etc/hosts: NAME:ADDRESS",
            |d, v| {
                d.options.extra_hosts.push(options::files::parse_extra_host(v).map_err(text)?);
                Ok(())
            },
        ),
        Flag::many("dns", None, "list", "DNS server", |d, v| {
            d.options.dns.servers.push(options::files::parse_dns(v).map_err(text)?);
            Ok(())
        }),
        Flag::many("dns-search", None, "list", "DNS search domain", |d, v| {
            d.options.dns.search.push(options::files::parse_dns_word(v).map_err(text)?);
            Ok(())
        }),
        Flag::many("dns-option", None, "list", "DNS option", |d, v| {
            d.options.dns.options.push(options::files::parse_dns_word(v).map_err(text)?);
            Ok(())
        }),
    ],
};

const LOGGING: Group<Draft> = Group {
    heading: "Log",
    flags: &[
        Flag::one(
            "log-driver",
            None,
            "string",
            "json-file (default) or none",
            |d: &mut Draft, v| {
                d.log_driver = Some(v.into());
                Ok(())
            },
        )
        .completes(Completes::Words(&["json-file", "none"])),
        Flag::many(
            "log-opt",
            None,
            "list",
            "Option of the log: max-size=10m, max-file=3",
            |d, v| {
                let pair = v.split_once('=').ok_or_else(|| format!("invalid log option: {v}"))?;
                d.log_options.push((pair.0.into(), pair.1.into()));
                Ok(())
            },
        ),
    ],
};
