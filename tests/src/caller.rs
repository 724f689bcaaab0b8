//! Who calls the runtime: root, or an ordinary user without subordinate IDs, or with them.
//!
//! A row of [`Case`](crate::Case) says by whom it is run too; the row itself does not change. For a
//! user, [`Container`](crate::runtime::Container) gives bundle and state away, puts the container
//! into a user namespace, and runs the runtime without privileges.

use std::{cell::Cell, fmt, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::json;

use crate::{binary, bundle::Bundle, command, place::Place};

/// Nobody's on any machine.
pub const UID: u32 = 54_321;
/// First of its subordinate IDs.
const SUBORDINATE: u32 = 700_000;

/// Who calls the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Root.
    Root,
    /// An ordinary user who has its own ID only.
    User,
    /// One with 65536 subordinate IDs, mapped by newuidmap(1).
    Subordinate,
}

impl fmt::Display for Caller {
    /// What follows a row's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "",
            Self::User => "@user",
            Self::Subordinate => "@subordinate",
        })
    }
}

thread_local! {
    static CALLER: Cell<Caller> = const { Cell::new(Caller::Root) };
}

/// Who calls it in the row that this thread runs.
pub fn current() -> Caller {
    CALLER.get()
}

/// From here on, in this thread.
pub(crate) fn set(caller: Caller) {
    CALLER.set(caller);
}

/// Gives a tree to the user, where one calls.
#[track_caller]
pub fn give(path: &Path) {
    if current() == Caller::Root {
        return;
    }
    let mut chown = Command::new(binary::tool("chown"));
    command::run(chown.args(["-R", "-h", &format!("{UID}:{UID}")]).arg(path)).ok();
}

/// Puts the bundle's container into a user namespace of the caller's, as far as a row has not said
/// how that is to be, and takes away what only root can set up.
pub(crate) fn adapt(bundle: &mut Bundle, caller: Caller) {
    if caller == Caller::Root {
        return;
    }
    let linux = &mut bundle.spec["linux"];
    linux["resources"].take();
    if linux["uidMappings"].is_null() {
        let mut map = vec![json!({"containerID": 0, "hostID": UID, "size": 1})];
        if caller == Caller::Subordinate {
            map.push(json!({"containerID": 1, "hostID": SUBORDINATE, "size": 65536}));
        }
        linux["uidMappings"] = json!(map);
        linux["gidMappings"] = json!(map);
        bundle.add_namespace("user");
    }
    for mount in bundle.spec["mounts"].as_array_mut().into_iter().flatten() {
        if let (Some(options), Caller::User) = (mount["options"].as_array_mut(), caller) {
            options.retain(|option| option != "gid=5");
        }
    }
    if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup");
    }
}

/// The runtime's command line, up to its own options, as the caller.
pub(crate) fn command(program: &Path, place: &Place, caller: Caller) -> Command {
    // The caller's own subordinate IDs, for this command alone.
    const SCRIPT: &str = r#"
        mount --bind "$1/passwd" /etc/passwd
        for file in /etc/subuid /etc/subgid; do
          if [ -e $file ]; then mount --bind "$1/subids" $file; fi
        done
        shift
        exec "$@""#;
    if caller == Caller::Root {
        return Command::new(program);
    }
    let setpriv = binary::tool("setpriv");
    let mut command = match caller {
        Caller::Subordinate => {
            binary::tool("newuidmap");
            place.write("passwd", format!("root:x:0:0::/:/bin/sh\nhk:x:{UID}:{UID}::/:/bin/sh\n"));
            place.write("subids", format!("hk:{SUBORDINATE}:65536\n"));
            let mut unshare = Command::new(binary::tool("unshare"));
            unshare.args(["--mount", "sh", "-euc", SCRIPT, "sh"]).arg(place.path()).arg(setpriv);
            unshare
        }
        _ => Command::new(setpriv),
    };
    let id = UID.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all", "env"]);
    command.arg(format!("XDG_RUNTIME_DIR={}", place.path().display())).arg(program);
    command
}

/// A copy of the program where everybody may execute it.
pub(crate) fn program(original: &Path, place: &Place, caller: Caller) -> std::path::PathBuf {
    if caller == Caller::Root {
        return original.to_owned();
    }
    let copy = place.join("runtime");
    fs::copy(original, &copy).expect("our own directory");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("our own file");
    copy
}
