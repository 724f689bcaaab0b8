//! Annotations that change what the runtime does: crun's `run.oci.*` (crun(1), "Extensions to OCI").

use std::path::PathBuf;

use hako_oci::runtime::{Spec, TimeOffset};
use hako_sys::seccomp::Insn;

use super::landlock;
use crate::{Error, Result};

/// What the annotations ask for, beyond what has a field in the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions {
    /// The caller's supplementary groups stay.
    pub(crate) keep_groups: bool,
    /// The mount option that takes the SELinux label.
    pub(crate) context: Option<&'static str>,
    /// A socket that gets a descriptor of the process.
    pub(crate) pidfd_receiver: Option<PathBuf>,
    /// A profile with a system call that is not known is an error.
    pub(crate) fail_unknown_syscall: bool,
    /// A filter in place of the profile.
    pub(crate) filter: Option<Vec<Insn>>,
    /// Files that get what hooks print.
    pub(crate) hooks_stdout: Option<PathBuf>,
    pub(crate) hooks_stderr: Option<PathBuf>,
    /// The rules for Landlock.
    pub(crate) landlock: Option<String>,
    /// Where the v1 hierarchy that systemd needs is mounted.
    pub(crate) systemd_v1: Option<String>,
    /// A cgroup below the container's own, for its processes.
    pub(crate) delegate: Option<String>,
}

type Meaning = fn(&mut Extensions, &mut Spec, &str, &str) -> Result<()>;

/// Each annotation, and what it does.
const ANNOTATIONS: &[(&str, Meaning)] = &[
    ("run.oci.keep_original_groups", |e, _, _, value| {
        // crun looks whether it is there, podman writes "1".
        e.keep_groups = value != "0";
        Ok(())
    }),
    ("run.oci.mount_context_type", |e, _, field, value| {
        const TYPES: &[&str] = &["context", "fscontext", "defcontext", "rootcontext"];
        let known = TYPES.iter().find(|word| **word == value);
        let unknown = || Error::config(field, format!("{value:?} is none of {}", TYPES.join(", ")));
        e.context = Some(known.ok_or_else(unknown)?);
        Ok(())
    }),
    ("run.oci.pidfd_receiver", |e, _, field, value| {
        e.pidfd_receiver = Some(absolute(field, value)?);
        Ok(())
    }),
    ("run.oci.hooks.stdout", |e, _, field, value| {
        e.hooks_stdout = Some(absolute(field, value)?);
        Ok(())
    }),
    ("run.oci.hooks.stderr", |e, _, field, value| {
        e.hooks_stderr = Some(absolute(field, value)?);
        Ok(())
    }),
    ("run.oci.seccomp_fail_unknown_syscall", |e, _, _, value| {
        e.fail_unknown_syscall = value != "0";
        Ok(())
    }),
    ("run.oci.seccomp.receiver", |_, spec, field, value| {
        absolute(field, value)?;
        let seccomp = spec.linux.as_mut().and_then(|linux| linux.seccomp.as_mut());
        if let Some(seccomp) = seccomp {
            seccomp.listener_path.get_or_insert_with(|| value.to_owned());
        }
        Ok(())
    }),
    ("run.oci.seccomp_bpf_data", |e, _, field, value| {
        e.filter = Some(filter(field, value)?);
        Ok(())
    }),
    ("run.oci.timens_offset", |_, spec, field, value| {
        let (clock, offset) = time_offset(field, value)?;
        if let Some(linux) = &mut spec.linux {
            linux.time_offsets.insert(clock, offset);
        }
        Ok(())
    }),
    ("run.oci.handler", |_, _, field, value| {
        let library = match value {
            "" => return Ok(()),
            "krun" => "libkrun",
            "wasm" | "wasmedge" | "wasmer" | "wasmtime" | "wamr" | "spin" => "a WebAssembly engine",
            _ => {
                return Err(Error::config(field, format!("there is no handler {value:?}")));
            }
        };
        let why = format!(
            "handler {value:?} needs {library}, which is not built in: programs are executed"
        );
        Err(Error::config(field, why))
    }),
    ("run.oci.seccomp.plugins", |_, _, field, _| {
        Err(Error::config(field, "plugins are not loaded; run.oci.seccomp.receiver takes a socket"))
    }),
    ("run.oci.delegate-cgroup", |e, _, field, value| {
        let is_name = |part| matches!(part, std::path::Component::Normal(_));
        if value.is_empty() || !std::path::Path::new(value).components().all(is_name) {
            let why = format!("{value:?} is not the name of a cgroup below the container's");
            return Err(Error::config(field, why));
        }
        e.delegate = Some(value.to_owned());
        Ok(())
    }),
    ("run.oci.systemd.force_cgroup_v1", |e, _, field, value| {
        absolute(field, value)?;
        e.systemd_v1 = Some(value.to_owned());
        Ok(())
    }),
    (landlock::ANNOTATION, |e, _, _, value| {
        e.landlock = Some(value.to_owned());
        Ok(())
    }),
];

/// Reads the annotations; those that stand for a field of the configuration become it.
pub(crate) fn read(spec: &mut Spec) -> Result<Extensions> {
    let mut extensions = Extensions::default();
    if spec.annotations.is_empty() {
        return Ok(extensions);
    }
    if spec.annotations.contains_key("") {
        return Err(Error::config("annotations[\"\"]", "a name must not be empty"));
    }
    for (name, meaning) in ANNOTATIONS {
        if let Some(value) = spec.annotations.get(*name).cloned() {
            let field = format!("annotations[{name:?}]");
            meaning(&mut extensions, spec, &field, &value)?;
        }
    }
    Ok(extensions)
}

fn absolute(field: &str, value: &str) -> Result<PathBuf> {
    if !value.starts_with('/') {
        return Err(Error::config(field, format!("{value:?} is not an absolute path")));
    }
    Ok(PathBuf::from(value))
}

/// `boottime 5 0`: clock, seconds, nanoseconds.
fn time_offset(field: &str, value: &str) -> Result<(String, TimeOffset)> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let offset = match words.as_slice() {
        [clock, secs, nanosecs] => secs
            .parse()
            .ok()
            .zip(nanosecs.parse().ok())
            .map(|(secs, nanosecs)| ((*clock).to_owned(), TimeOffset { secs, nanosecs })),
        _ => None,
    };
    offset.ok_or_else(|| {
        Error::config(field, format!("{value:?} is not a clock, seconds and nanoseconds"))
    })
}

/// A filter for the kernel: instructions of eight bytes, in base64.
fn filter(field: &str, value: &str) -> Result<Vec<Insn>> {
    let bad = |reason: &str| Error::config(field, reason);
    let bytes = base64(value).ok_or_else(|| bad("is not base64"))?;
    if bytes.is_empty() || bytes.len() % 8 != 0 {
        return Err(bad("is not a list of BPF instructions of 8 bytes"));
    }
    if bytes.len() / 8 > hako_sys::seccomp::INSNS_MAX {
        return Err(bad("has more instructions than the kernel takes"));
    }
    let insn = |b: &[u8]| Insn {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jump_true: b[2],
        jump_false: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    Ok(bytes.chunks_exact(8).map(insn).collect())
}

/// RFC 4648, with or without its padding; `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end().trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over are zeros, fewer than six.
    (bits == 0 && count < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use hako_oci::runtime::{Linux, Seccomp};

    use super::*;

    fn annotated(name: &str, value: &str) -> (Result<Extensions>, Spec) {
        let mut spec = Spec {
            annotations: [(name.to_owned(), value.to_owned())].into(),
            linux: Some(Linux { seccomp: Some(Seccomp::default()), ..Linux::default() }),
            ..Spec::default()
        };
        (read(&mut spec), spec)
    }

    #[test]
    fn annotations_with_a_field_become_it() {
        let (_, spec) = annotated("run.oci.timens_offset", "boottime -5 7");
        let offset = TimeOffset { secs: -5, nanosecs: 7 };
        let linux = spec.linux.unwrap();
        assert_eq!(linux.time_offsets.get("boottime"), Some(&offset));
        let (_, spec) = annotated("run.oci.seccomp.receiver", "/s");
        let seccomp = spec.linux.unwrap().seccomp.unwrap();
        assert_eq!(seccomp.listener_path.as_deref(), Some("/s"));
    }

    #[test]
    fn others_are_kept() {
        let read = |name: &str, value: &str| annotated(name, value).0.unwrap();
        assert!(read("run.oci.keep_original_groups", "1").keep_groups);
        assert!(read("run.oci.seccomp_fail_unknown_syscall", "1").fail_unknown_syscall);
        assert_eq!(read("run.oci.mount_context_type", "rootcontext").context, Some("rootcontext"));
        assert_eq!(read("run.oci.hooks.stdout", "/o").hooks_stdout, Some("/o".into()));
        let filter = read("run.oci.seccomp_bpf_data", "BgAAAAAA/38=").filter.unwrap();
        assert_eq!(filter, [Insn { code: 6, jump_true: 0, jump_false: 0, k: 0x7fff_0000 }]);
        assert!(!read("run.oci.unknown", "x").keep_groups);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (name, value) in [
            ("run.oci.handler", "krun"),
            ("run.oci.seccomp.plugins", "x.so"),
            ("run.oci.mount_context_type", "other"),
            ("run.oci.pidfd_receiver", "relative"),
            ("run.oci.timens_offset", "boottime 1"),
            ("run.oci.timens_offset", "boottime x 0"),
            ("run.oci.seccomp_bpf_data", ""),
            ("run.oci.seccomp_bpf_data", "BgAA"),
            ("run.oci.seccomp_bpf_data", "****"),
        ] {
            let result = annotated(name, value).0;
            assert!(result.unwrap_err().to_string().contains(name), "{name} {value}");
        }
    }

    #[test]
    fn base64_of_every_length() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        for bad in ["Z", "Zh==", "Zm9=", "Z!", "Zg==Zg=="] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
