//! JSON documents of images, bundles and profiles; the frames of the attach socket.

use std::path::Path;

use hako_monitor::protocol::{Event, Frame, Request};
use hako_oci::{
    image::{ImageConfig, Index, Manifest},
    runtime,
};
use hako_runtime::{Options, Plan};
use serde_json::{Value, json};

const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

fn texts(values: &[Value]) -> Vec<Vec<u8>> {
    values.iter().map(|value| value.to_string().into_bytes()).collect()
}

pub(super) fn images() -> Vec<Vec<u8>> {
    let blob = |kind: &str| {
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{HEX}"), "size": 7,
               "annotations": {"a": "b"}, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}})
    };
    texts(&[
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
               "config": blob("config.v1+json"), "layers": [blob("layer.v1.tar+gzip"), blob("layer.v1.tar+zstd")],
               "annotations": {"x": "y"}, "unknown": [1]}),
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
               "manifests": [blob("manifest.v1+json")], "subject": blob("manifest.v1+json")}),
        json!({"architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
               "config": {"User": "1:2", "Env": ["A=b"], "Entrypoint": ["/x"], "Cmd": null, "Volumes": {"/v": {}},
                          "WorkingDir": "/w", "Labels": {"l": "m"}, "ExposedPorts": {"80/tcp": {}}},
               "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{HEX}")]},
               "history": [{"created_by": "x", "empty_layer": true}], "extra": {"kept": 1}}),
        json!([{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l/layer.tar"]}]),
    ])
}

/// What was read is written as it was: no unknown field is lost.
pub(super) fn image(input: &[u8]) {
    if let Ok(manifest) = Manifest::parse(input) {
        let written = serde_json::to_vec(&manifest).expect("a document can be written");
        assert_eq!(Manifest::parse(&written).ok().as_ref(), Some(&manifest));
    }
    if let Ok(index) = Index::parse(input) {
        let written = serde_json::to_vec(&index).expect("a document can be written");
        assert_eq!(Index::parse(&written).ok().as_ref(), Some(&index));
    }
    if let Ok(config) = ImageConfig::parse(input) {
        let written = serde_json::to_vec(&config).expect("a document can be written");
        assert_eq!(ImageConfig::parse(&written).ok().as_ref(), Some(&config));
    }
}

pub(super) fn configs() -> Vec<Vec<u8>> {
    let capabilities = json!(["CAP_KILL", "CAP_NET_RAW"]);
    texts(&[
        json!({"ociVersion": "1.0.2", "root": {"path": "rootfs", "readonly": true}, "hostname": "h", "domainname": "d",
            "process": {"terminal": false, "user": {"uid": 1, "gid": 2, "additionalGids": [3], "umask": 18},
                "args": ["sh"], "env": ["A=b", "PATH=/bin"], "cwd": "/", "noNewPrivileges": true, "oomScoreAdj": 5,
                "capabilities": {"bounding": capabilities, "effective": capabilities, "ambient": capabilities},
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 10, "soft": 5}]},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
                {"destination": "/data", "type": "bind", "source": "/x", "options": ["rbind", "ro", "rprivate"]},
                {"destination": "/m", "type": "bind", "source": "/y", "options": ["bind", "idmap"],
                 "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}]}],
            "annotations": {"io.hako.landlock": "{\"ruleset\": {\"handledAccessFS\": [\"execute\"]}}",
                "run.oci.timens_offset": "boottime 1 2", "run.oci.seccomp_bpf_data": "BgAAAAAA/38="},
            "hooks": {"createRuntime": [{"path": "/bin/x", "args": ["x"], "timeout": 3}]},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": "/p"}, {"type": "user"}],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}],
                "sysctl": {"net.ipv4.ip_forward": "1"}, "cgroupsPath": "/a/b", "rootfsPropagation": "rslave",
                "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "",
                "resources": {"memory": {"limit": 1_000_000, "swap": -1}, "cpu": {"shares": 2, "quota": 3, "cpus": "0-1"},
                    "pids": {"limit": 5}, "devices": [{"allow": false, "access": "rwm"}], "unified": {"memory.high": "1"},
                    "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}},
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}]},
                "netDevices": {"eth0": {"name": "lan%d"}}, "intelRdt": {"closID": "x", "memBwSchema": "MB:0=1", "schemata": ["L3:0=f"]},
                "personality": {"domain": "LINUX32"}, "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}}}}),
        json!({"ociVersion": "1.3.0", "root": {"path": "/"}, "process": {"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}}}),
    ])
}

/// Any document that parses is planned or refused.
pub(super) fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match serde_json::from_slice::<runtime::Spec>(input) {
        Ok(spec) => {
            let plan = Plan::new(&spec, Path::new("/bundle"), &Options::new("fuzz", "/state"));
            let field = plan.err().and_then(|error| error.field()).unwrap_or_default();
            hako_oci::locate::line_of(&text, &field);
        }
        Err(error) => drop(hako_oci::locate::field_at(&text, error.line(), error.column())),
    }
}

pub(super) fn profiles() -> Vec<Vec<u8>> {
    texts(&[
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": 2_114_060_288u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
                 "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"name": "kill", "action": "SCMP_ACT_KILL_PROCESS"}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_AARCH64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["openat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [
                {"index": 2, "value": 1, "op": "SCMP_CMP_GE"}, {"index": 5, "value": 4_294_967_296u64, "op": "SCMP_CMP_LT"}]}]}),
    ])
}

/// A profile in either format compiles to a program that the kernel can take, or is refused.
pub(super) fn profile(input: &[u8]) {
    let capabilities = ["CAP_SYS_ADMIN".to_owned()];
    let Some(arch) = hako_seccomp::Arch::native() else { return };
    let context = hako_seccomp::Context { capabilities: &capabilities, arch, kernel: (6, 1) };
    if let Ok(profile) = hako_seccomp::docker_profile(input, &context) {
        drop(hako_seccomp::compile(&profile));
    }
    if let Ok(profile) = serde_json::from_slice::<runtime::Seccomp>(input) {
        drop(hako_seccomp::compile(&profile));
    }
}

pub(super) fn frames() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for kind in 0..12_u8 {
        for payload in [
            &b""[..],
            b"\x01\0\0\0",
            b"\x18\0\x50\0",
            br#"{"call":"execve","object":"x","errno":2}"#,
        ] {
            let mut frame = vec![kind];
            frame.extend((payload.len() as u32).to_le_bytes());
            frame.extend(payload);
            seeds.push(frame);
        }
    }
    seeds
}

/// A stream of frames, read as both sides read it.
pub(super) fn frame(input: &[u8]) {
    let mut rest = input;
    while let Ok(Some(frame)) = Frame::first(rest) {
        let _ = std::hint::black_box((Request::decode(frame), Event::decode(frame)));
        rest = &rest[frame.size()..];
    }
}

/// What systemd's bus sends: an answer, a job's end, an error, values of every type.
pub(super) fn messages() -> Vec<Vec<u8>> {
    /// Type, member or error, signature and bytes of the body.
    const MESSAGES: &[(u8, u8, &str, &str, &[u8])] = &[
        (2, 3, "", "o", b"\x06\0\0\0/job/5\0"),
        (2, 3, "", "v", b"\x01s\0\0\x03\0\0\0/a/\0"),
        (3, 4, "org.freedesktop.systemd1.NoSuchUnit", "s", b"\x05\0\0\0words\0"),
        (
            4,
            3,
            "JobRemoved",
            "uoss",
            b"\x05\0\0\0\x06\0\0\0/job/5\0\0\x07\0\0\0a.scope\0\x04\0\0\0done\0",
        ),
        (2, 3, "", "a(sv)", b"\x0d\0\0\0\0\0\0\0\x01\0\0\0x\0\x01b\0\0\0\0\x01"),
        (2, 3, "", "ybiuxtd", b"\x01\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\x3f"),
        (2, 3, "", "aay", b"\x06\0\0\0\x02\0\0\0ab"),
    ];
    let padded = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(8), 0);
    let message = |&(kind, code, name, signature, body): &(u8, u8, &str, &str, &[u8])| {
        let mut fields = vec![5, 1, b'u', 0, 1, 0, 0, 0];
        fields.extend([code, 1, b's', 0]);
        fields.extend((name.len() as u32).to_le_bytes());
        fields.extend(name.bytes().chain([0]));
        padded(&mut fields);
        fields.extend([8, 1, b'g', 0, signature.len() as u8]);
        fields.extend(signature.bytes().chain([0]));
        let mut message = vec![b'l', kind, 0, 1];
        message.extend((body.len() as u32).to_le_bytes());
        message.extend(7_u32.to_le_bytes());
        message.extend((fields.len() as u32).to_le_bytes());
        message.extend(fields);
        padded(&mut message);
        message.extend(body);
        message
    };
    MESSAGES.iter().map(message).collect()
}

pub(super) fn message(input: &[u8]) {
    std::hint::black_box(hako_cgroup::systemd::values_of_message(input));
}
