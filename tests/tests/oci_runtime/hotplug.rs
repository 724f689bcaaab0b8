//! `mounts add` and `mounts remove`: mounts of a container that runs.

use std::fs;

use hako_tests::{Case, runtime::Container};
use serde_json::json;

use super::sleeping;

const MOUNTS: &str = "crun mounts(1)";
/// Neither peer has the verb in the versions that are tested against.
const PEERS: &[(&str, &str)] = &[("runc", "has no mounts"), ("crun", "1.8 has no mounts")];

/// A directory of the host with one file, and its path.
#[track_caller]
fn shared(container: &Container) -> String {
    hako_tests::kernel::needs((5, 12), "a bind mount into a running container");
    let place = container.bundle.place();
    place.write("shared/file", "from the host");
    place.path().join("shared").to_string_lossy().into_owned()
}

#[track_caller]
fn add(container: &Container, words: &str) {
    container.call(&["mounts", "add", container.id(), "--mount", words]).ok();
}

pub(crate) const CASES: &[Case] = &[
    Case::new("mounts-add-and-remove", MOUNTS, "a directory comes and goes while it runs", || {
        let container = sleeping(|_| ());
        let source = shared(&container);
        add(&container, &format!("type=bind,src={source},dst=/late/place,ro"));
        container.exec(&[], &["cat", "/late/place/file"]).prints("from the host");
        container.exec(&[], &["touch", "/late/place/x"]).fails().complains("Read-only");
        // It is the container's alone.
        let host = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
        assert!(!host.contains("/late/place"), "{host}");
        container.call(&["mounts", "remove", container.id(), "/late/place"]).ok();
        container.exec(&[], &["ls", "/late/place"]).prints("");
        container
            .call(&["mounts", "remove", container.id(), "/late/place"])
            .fails()
            .complains("nothing that hako-runc mounted");
    })
    .peers_fail(PEERS),
    Case::new("mounts-add-file-list", MOUNTS, "a list of mounts as in config.json", || {
        let container = sleeping(|_| ());
        let source = shared(&container);
        let list = json!([
            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "nosuid"]},
            {"destination": "/t/one", "type": "bind", "source": format!("{source}/file"), "options": ["bind"]},
        ]);
        let file = container.bundle.place().write("list.json", list.to_string());
        let file = file.to_string_lossy();
        container.call(&["mounts", "add", container.id(), &file]).ok();
        container.exec(&[], &["cat", "/t/one"]).prints("from the host");
        container.exec(&[], &["grep", " /t ", "/proc/mounts"]).says("size=64k");
        container.call(&["mounts", "remove", container.id(), "/t/one", "/t"]).ok();
        container.exec(&[], &["grep", " /t", "/proc/mounts"]).fails();
    })
    .peers_fail(PEERS),
    Case::new("mounts-add-links", MOUNTS, "links in the container lead nowhere else", || {
        let container = sleeping(|_| ());
        let source = shared(&container);
        let outside = container.bundle.place().path().join("outside");
        fs::create_dir(&outside).expect("a directory");
        let script = format!("ln -s {} /link; ln -s / /up; mkdir -p /real", outside.display());
        container.exec(&[], &["sh", "-c", &script]).ok();
        add(&container, &format!("src={source},dst=/link"));
        add(&container, &format!("src={source},dst=/../../up/real"));
        container.exec(&[], &["cat", "/real/file"]).prints("from the host");
        assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0);
        // What was mounted through a link is not unmounted through one.
        container.call(&["mounts", "remove", container.id(), "/up/real"]).fails();
    })
    .peers_fail(PEERS),
    Case::new("mounts-remove-masks", MOUNTS, "masks and the root cannot be taken away", || {
        let container = sleeping(|_| ());
        let masks = ["grep", "-c", " /proc/", "/proc/mounts"];
        let before = container.exec(&[], &masks).ok().to_owned();
        for place in ["/", "/proc/kcore", "/proc/acpi", "/nothing"] {
            container.call(&["mounts", "remove", container.id(), place]).fails();
        }
        let source = shared(&container);
        for words in [format!("src={source},dst=/"), "type=proc,dst=/p".to_owned(),
                      format!("src={source},dst=/proc/sys"), "src=/no/such,dst=/x".to_owned()] {
            container.call(&["mounts", "add", container.id(), "--mount", &words]).fails();
        }
        container.exec(&[], &masks).prints(&before);
    })
    .peers_fail(PEERS),
    Case::new("mounts-in-user-namespace", MOUNTS, "in a user namespace as well", || {
        let container = sleeping(|bundle| {
            bundle.add_namespace("user");
            for ids in ["uidMappings", "gidMappings"] {
                bundle.spec["linux"][ids] =
                    json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            }
        });
        let source = shared(&container);
        add(&container, &format!("src={source},dst=/late"));
        container.exec(&[], &["cat", "/late/file"]).prints("from the host");
        add(&container, "type=tmpfs,dst=/mem");
        container.exec(&[], &["stat", "-c", "%u", "/mem"]).prints("0");
        container.call(&["mounts", "remove", container.id(), "/late", "/mem"]).ok();
        container.exec(&[], &["ls", "/late"]).prints("");
    })
    .peers_fail(PEERS),
    Case::new("mounts-of-stopped", MOUNTS, "a stopped container has no mounts", || {
        let container = sleeping(|_| ());
        let source = shared(&container);
        container.kill("KILL").ok();
        container.wait_stopped();
        let words = format!("src={source},dst=/late");
        container.call(&["mounts", "add", container.id(), "--mount", &words]).fails();
        container.call(&["mounts", "add", container.id()]).fails();
        container.call(&["mounts", "shuffle", container.id(), "/x"]).fails();
    })
    .peers_fail(PEERS),
];
