//! config-linux.md: network devices.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use hako_tests::{
    Case, binary,
    bundle::{Bundle, push},
    command,
};
use serde_json::json;

use super::{refused, sh, sleeping};

const DEVICES: &str = "config-linux.md#network-devices";

/// Peers of Debian 12 are older than the field.
const NEW: &[(&str, &str)] =
    &[("runc", "1.1 does not know them"), ("crun", "1.8 does not know them")];

#[track_caller]
fn ip(words: &str) {
    command::run(Command::new(binary::tool("ip")).args(words.split(' '))).ok();
}

/// A pair of devices, of a name that is nobody else's; gone with the second one.
struct Pair(String);

impl Pair {
    #[track_caller]
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hk{}", NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("link add {name} type veth peer name {name}p"));
        Self(name)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let words = ["link", "del", &format!("{}p", self.0)];
        command::run(Command::new(binary::tool("ip")).args(words));
    }
}

fn give(bundle: &mut Bundle, device: &Pair, name: Option<&str>) {
    bundle.spec["linux"]["netDevices"][&device.0] = match name {
        Some(name) => json!({"name": name}),
        None => json!({}),
    };
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "net-device",
        DEVICES,
        "a device MUST be moved into the container, and be up",
        || {
            let pair = Pair::new();
            sh("cat /sys/class/net/hk*/flags; ls /sys/class/net | grep -v lo", |bundle| {
                give(bundle, &pair, None);
            })
            .says("0x1003")
            .says(&pair.0);
        },
    )
    .peers_fail(NEW),
    Case::new("net-device-renamed", DEVICES, "under the name that is given", || {
        let pair = Pair::new();
        sh("ls /sys/class/net", |bundle| give(bundle, &pair, Some("lan0"))).prints("lan0\nlo");
    })
    .peers_fail(NEW),
    Case::new("net-device-template", DEVICES, "with %d the kernel MUST find a number", || {
        let (one, other) = (Pair::new(), Pair::new());
        sh("ls /sys/class/net", |bundle| {
            give(bundle, &one, Some("lan%d"));
            give(bundle, &other, Some("lan%d"));
        })
        .prints("lan0\nlan1\nlo");
    })
    .peers_fail(NEW),
    Case::new(
        "net-device-addresses",
        DEVICES,
        "permanent global addresses MUST be preserved, of any family, and no others",
        || {
            let pair = Pair::new();
            let name = &pair.0;
            for words in [
                format!("addr add 10.9.8.7/24 brd + dev {name}"),
                format!("addr add fd00::5/64 dev {name} nodad"),
                format!("addr add 10.1.1.1/24 dev {name} valid_lft 600 preferred_lft 600"),
                format!("addr add 10.2.2.2/24 scope link dev {name}"),
                format!("link set {name} mtu 1400 address 02:00:00:00:00:01"),
            ] {
                ip(&words);
            }
            let output = sh("ip addr show lan0", |bundle| give(bundle, &pair, Some("lan0")));
            output.says("10.9.8.7/24 brd 10.9.8.255").says("fd00::5/64");
            output.says("mtu 1400").says("02:00:00:00:00:01");
            for gone in ["10.1.1.1", "10.2.2.2"] {
                assert!(!output.stdout.contains(gone), "{gone}\n{output}");
            }
        },
    )
    .peers_fail(NEW),
    Case::new("net-device-in-a-user-namespace", DEVICES, "also into a new user namespace", || {
        let pair = Pair::new();
        ip(&format!("addr add 10.9.8.7/24 dev {}", pair.0));
        sh("ip addr show lan0", |bundle| {
            give(bundle, &pair, Some("lan0"));
            bundle.add_namespace("user");
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            bundle.spec["linux"]["uidMappings"] = map.clone();
            bundle.spec["linux"]["gidMappings"] = map;
            let mut chown = Command::new(binary::tool("chown"));
            command::run(chown.args(["-R", "-h", "100000:100000"]).arg(bundle.rootfs("."))).ok();
        })
        .says("10.9.8.7/24")
        .says("UP");
    })
    .peers_fail(NEW),
    Case::new(
        "net-device-into-a-joined-namespace",
        DEVICES,
        "… and into one that is joined",
        || {
            let (pair, other) = (Pair::new(), sleeping(|_| ()));
            let path = format!("/proc/{}/ns/net", other.pid());
            sh("ls /sys/class/net", |bundle| {
                give(bundle, &pair, Some("lan0"));
                bundle.without_namespace("network");
                let joined = json!({"type": "network", "path": path});
                push(&mut bundle.spec["linux"]["namespaces"], joined);
            })
            .prints("lan0\nlo");
            other.exec(&[], &["cat", "/proc/net/dev"]).says("lan0");
        },
    )
    .peers_fail(NEW),
    Case::new("net-device-missing", DEVICES, "one that is not there is an error", || {
        refused(|bundle| bundle.spec["linux"]["netDevices"] = json!({"nope0": {}}))
            .complains("nope0");
    })
    .peers_fail(NEW),
    Case::new(
        "net-device-name-taken",
        DEVICES,
        "a name that the container has already MUST be an error, and the device stays",
        || {
            let pair = Pair::new();
            refused(|bundle| give(bundle, &pair, Some("lo"))).complains("lo");
            ip(&format!("link show {}", pair.0));
        },
    )
    .peers_fail(NEW),
    Case::new(
        "net-device-wrong-name",
        DEVICES,
        "a name that no device can have is an error",
        || {
            for name in ["a/b", "a:b", "..", "a b", "much-longer-than-15", "x%s"] {
                let pair = Pair::new();
                refused(|bundle| give(bundle, &pair, Some(name))).complains("netDevices");
            }
        },
    )
    .peers_fail(NEW),
    Case::new(
        "net-device-without-namespace",
        DEVICES,
        "without a network namespace, an error",
        || {
            let pair = Pair::new();
            refused(|bundle| {
                bundle.without_namespace("network");
                give(bundle, &pair, None);
            })
            .complains("netDevices");
        },
    )
    .peers_fail(NEW),
];
