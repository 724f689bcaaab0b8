//! AppArmor profiles of a container. Needs a kernel that enforces them and apparmor_parser; `cargo xtask vm` has both.

#![forbid(unsafe_code)]

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    sync::atomic::{AtomicU32, Ordering},
};

use hako_tests::{Case, bundle::Bundle, command, place::Place, runtime::Container, skip};
use serde_json::json;

const PROFILE: &str = "config.md#linux-process, apparmorProfile";
const POLICY: &str = "/sys/kernel/security/apparmor";

const CASES: &[Case] = &[
    Case::new("profile-is-applied", PROFILE, "the process runs under the profile", || {
        let profile = Profile::load();
        confined(&profile, "cat /proc/self/attr/current")
            .run()
            .prints(&format!("{} (enforce)", profile.name));
    }),
    Case::new(
        "profile-is-enforced",
        PROFILE,
        "what the profile denies fails, what it allows works",
        || {
            let profile = Profile::load();
            let script = "cat /etc/os-release >/dev/null && echo allowed; cat /etc/group 2>&1 >/dev/null || echo denied";
            confined(&profile, script)
                .run()
                .says("allowed")
                .says("denied")
                .says("Permission denied");
        },
    ),
    Case::new(
        "profile-with-new-privileges-off",
        PROFILE,
        "no_new_privs does not stop the first transition",
        || {
            let profile = Profile::load();
            for no_new_privileges in [true, false] {
                let mut container = confined(&profile, "cat /proc/self/attr/current");
                container.bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
                container.run().says(&profile.name);
            }
        },
    ),
    Case::new(
        "profile-of-an-ordinary-user",
        PROFILE,
        "the profile is applied although capabilities are gone",
        || {
            let profile = Profile::load();
            let mut container = confined(&profile, "cat /proc/self/attr/current");
            container.bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            container.bundle.spec["process"]["capabilities"] = json!({});
            container.run().says(&profile.name);
        },
    ),
    Case::new("profile-holds-for-exec", PROFILE, "exec runs under the container's profile", || {
        let profile = Profile::load();
        let container = confined(&profile, "sleep 1000");
        container.create().ok();
        container.start().ok();
        container
            .exec(&[], &["cat", "/proc/self/attr/current"])
            .prints(&format!("{} (enforce)", profile.name));
        container.exec(&[], &["cat", "/etc/group"]).fails().complains("Permission denied");
    }),
    Case::new(
        "exec-takes-another-profile",
        "runc exec --apparmor",
        "exec runs under the profile it names",
        || {
            let (profile, other) = (Profile::load(), Profile::load());
            let container = confined(&profile, "sleep 1000");
            container.create().ok();
            container.start().ok();
            let output =
                container.exec(&["--apparmor", &other.name], &["cat", "/proc/self/attr/current"]);
            output.prints(&format!("{} (enforce)", other.name));
        },
    ),
    Case::new(
        "profile-that-is-not-loaded",
        PROFILE,
        "an unknown profile is an error that names it, before anything runs",
        || {
            needs_apparmor();
            let mut container = Container::new(Bundle::sh("echo ran"));
            container.bundle.spec["process"]["apparmorProfile"] = json!("hako-test-absent");
            let output = container.run();
            output.fails().is_sane().complains("hako-test-absent");
            assert!(!output.stdout.contains("ran"), "{output}");
            assert!(container.cgroups().is_empty(), "{:?}", container.cgroups());
        },
    )
    .peers_fail(&[
        ("runc", "names the file of /proc it wrote to"),
        ("crun", "names the file of /proc it wrote to"),
    ]),
    Case::new(
        "unconfined-is-a-profile",
        PROFILE,
        "unconfined leaves the process unconfined",
        || {
            needs_apparmor();
            let mut container = Container::new(Bundle::sh("cat /proc/self/attr/current"));
            container.bundle.spec["process"]["apparmorProfile"] = json!("unconfined");
            container.run().prints("unconfined");
        },
    ),
    Case::new(
        "no-apparmor-is-an-error",
        PROFILE,
        "where the kernel has no AppArmor, a profile is not silently dropped",
        || {
            if enforced() {
                skip!("this kernel has AppArmor");
            }
            let mut container = Container::new(Bundle::sh("echo ran"));
            container.bundle.spec["process"]["apparmorProfile"] = json!("hako-test-absent");
            let output = container.run();
            output.fails().is_sane().complains("apparmor");
            assert!(!output.stdout.contains("ran"), "{output}");
        },
    )
    .peers_fail(&[("crun", "drops it")]),
];

fn main() -> ExitCode {
    hako_tests::run("apparmor", &[CASES])
}

/// Whether this kernel enforces AppArmor profiles, and they can be loaded.
fn enforced() -> bool {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    modules.split(',').any(|module| module == "apparmor") && Path::new(POLICY).is_dir()
}

fn needs_apparmor() {
    if !enforced() {
        skip!("AppArmor is not in this kernel's list of security modules");
    }
}

/// A loaded profile with a name of its own; unloaded when dropped.
struct Profile {
    name: String,
    place: Place,
}

impl Profile {
    fn load() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        needs_apparmor();
        let name =
            format!("hako-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let place = Place::new("profile");
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n\
               file,\n  capability,\n  network,\n  signal,\n  ptrace,\n\
               deny /etc/group rwklx,\n}}\n"
        );
        place.write("profile", text);
        let profile = Self { name, place };
        profile.parser("--replace").ok();
        profile
    }

    #[track_caller]
    fn parser(&self, verb: &str) -> command::Output {
        let parser =
            command::find("apparmor_parser").unwrap_or_else(|| skip!("no apparmor_parser"));
        command::run(
            Command::new(parser).args([verb, "--skip-cache"]).arg(self.place.join("profile")),
        )
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let output = self.parser("--remove");
        if output.code != 0 && !std::thread::panicking() {
            panic!("the profile stays loaded\n{output}");
        }
    }
}

/// A container that runs `script` under the profile.
fn confined(profile: &Profile, script: &str) -> Container {
    let mut container = Container::new(Bundle::sh(script));
    container.bundle.spec["process"]["apparmorProfile"] = json!(profile.name);
    container
}
