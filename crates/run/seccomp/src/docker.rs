//! Docker's format of profiles: OCI's, with conditions on capabilities, architecture and kernel.
//!
//! ```json
//! { "defaultAction": "SCMP_ACT_ERRNO",
//!   "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }],
//!   "syscalls": [{ "names": ["bpf"], "action": "SCMP_ACT_ALLOW",
//!                  "includes": { "caps": ["CAP_BPF"], "arches": ["amd64"], "minKernel": "5.8" },
//!                  "excludes": {} }] }
//! ```

use hako_oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use serde::{Deserialize, Deserializer};

use crate::arch::Arch;

/// What the conditions of a profile are about.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The container's bounding set, as `CAP_CHOWN`.
    pub capabilities: &'a [String],
    /// The machine's architecture.
    pub arch: Arch,
    /// The kernel's major and minor version.
    pub kernel: (u32, u32),
}

impl Context<'_> {
    pub(crate) fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }
}

/// Why a file is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON, or not of this form.
    #[error("decode the seccomp profile: {0}")]
    Json(serde_json::Error),
    /// There is nothing that it could default to.
    #[error("the seccomp profile has no defaultAction")]
    NoDefault,
    /// The architecture is said in two ways.
    #[error("the seccomp profile has both architectures and archMap: it may have one")]
    Architectures,
    /// Calls are named in two ways.
    #[error("syscalls[{0}] of the seccomp profile has both name and names: it may have one")]
    Names(usize),
    /// A kernel version that is none.
    #[error("syscalls[{0}] of the seccomp profile: {1:?} is not a kernel version as 4.8")]
    Kernel(usize, String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    default_action: Option<String>,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "null_default")]
    architectures: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    arch_map: Vec<Family>,
    #[serde(deserialize_with = "null_default")]
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(deserialize_with = "null_default")]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Family {
    architecture: String,
    #[serde(deserialize_with = "null_default")]
    sub_architectures: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    name: Option<String>,
    #[serde(deserialize_with = "null_default")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(deserialize_with = "null_default")]
    args: Vec<SeccompArg>,
    #[serde(deserialize_with = "null_default")]
    includes: Filter,
    #[serde(deserialize_with = "null_default")]
    excludes: Filter,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    #[serde(deserialize_with = "null_default")]
    caps: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    arches: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    min_kernel: String,
}

fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Reads a profile in Docker's format, of which OCI's is a part, and resolves its conditions.
pub fn docker_profile(json: &[u8], context: &Context<'_>) -> Result<Seccomp, ProfileError> {
    let profile: Profile = serde_json::from_slice(json).map_err(ProfileError::Json)?;
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(ProfileError::Architectures);
    }
    let default_action =
        profile.default_action.filter(|a| !a.is_empty()).ok_or(ProfileError::NoDefault)?;
    let mut architectures = profile.architectures;
    let native = context.arch.name();
    if let Some(family) = profile.arch_map.into_iter().find(|f| f.architecture == native) {
        architectures.push(family.architecture);
        architectures.extend(family.sub_architectures);
    }
    let mut syscalls = Vec::with_capacity(profile.syscalls.len());
    for (i, rule) in profile.syscalls.into_iter().enumerate() {
        let name = rule.name.filter(|n| !n.is_empty());
        if name.is_some() && !rule.names.is_empty() {
            return Err(ProfileError::Names(i));
        }
        if applies(i, &rule.includes, &rule.excludes, context)? {
            syscalls.push(SeccompRule {
                names: name.map_or(rule.names, |n| vec![n]),
                action: rule.action,
                errno_ret: rule.errno_ret,
                args: rule.args,
            });
        }
    }
    Ok(Seccomp {
        default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    })
}

/// As Docker: every condition of `includes` must hold, and none of `excludes`. Of the capabilities
/// in `includes` all must be there; of those in `excludes` one is enough.
fn applies(
    i: usize,
    includes: &Filter,
    excludes: &Filter,
    context: &Context<'_>,
) -> Result<bool, ProfileError> {
    let arch = arch_name(context.arch);
    let has_arch = |f: &Filter| f.arches.iter().any(|a| a == arch);
    let new_enough = |f: &Filter| match f.min_kernel.as_str() {
        "" => Ok(None),
        text => match kernel_version(text) {
            Some(version) => Ok(Some(context.kernel >= version)),
            None => Err(ProfileError::Kernel(i, text.to_owned())),
        },
    };
    let excluded = has_arch(excludes)
        || excludes.caps.iter().any(|c| context.has(c))
        || new_enough(excludes)? == Some(true);
    let included = (includes.arches.is_empty() || has_arch(includes))
        && includes.caps.iter().all(|c| context.has(c))
        && new_enough(includes)? != Some(false);
    Ok(included && !excluded)
}

/// The first two numbers of a version, as of `uname`: `6.1.0-18-amd64` is (6, 1).
pub fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

/// Docker's word for an architecture.
pub(crate) fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::X86 => "x86",
        Arch::X32 => "x32",
        Arch::Aarch64 => "arm64",
        Arch::Arm => "arm",
        Arch::Mips => "mips",
        Arch::Mips64 => "mips64",
        Arch::Mips64n32 => "mips64n32",
        Arch::Mipsel => "mipsel",
        Arch::Mipsel64 => "mipsel64",
        Arch::Mipsel64n32 => "mipsel64n32",
        Arch::Ppc => "ppc",
        Arch::Ppc64 => "ppc64",
        Arch::Ppc64le => "ppc64le",
        Arch::S390 => "s390",
        Arch::S390x => "s390x",
        Arch::Riscv64 => "riscv64",
        Arch::Loongarch64 => "loongarch64",
        Arch::Parisc => "parisc",
        Arch::Parisc64 => "parisc64",
        Arch::M68k => "m68k",
        Arch::Sh => "sh",
        Arch::Sheb => "sheb",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compile_for, docker_default};

    fn context<'a>(capabilities: &'a [String]) -> Context<'a> {
        Context { capabilities, arch: Arch::X86_64, kernel: (6, 18) }
    }

    /// Docker's own file, where the test data is.
    fn shared(test: &str) -> Option<Vec<u8>> {
        let dir = std::env::var_os("HAKO_TEST_DATA").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/data"),
            Into::into,
        );
        let path = dir.join("seccomp/docker-default.json");
        match std::fs::read(&path) {
            Ok(json) => Some(json),
            Err(e) => {
                eprintln!("SKIP {test}: {}: {e}", path.display());
                None
            }
        }
    }

    /// Names in a fixed order: the table and the file may list them differently.
    fn sorted(mut profile: Seccomp) -> Seccomp {
        for rule in &mut profile.syscalls {
            rule.names.sort_unstable();
        }
        profile
    }

    #[test]
    fn the_table_equals_dockers_file() {
        let Some(json) = shared("the_table_equals_dockers_file") else { return };
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let mut known: Vec<String> = Vec::new();
        for rule in value["syscalls"].as_array().unwrap() {
            for filter in ["includes", "excludes"] {
                for cap in rule[filter]["caps"].as_array().into_iter().flatten() {
                    let cap = cap.as_str().unwrap().to_owned();
                    if !known.contains(&cap) {
                        known.push(cap);
                    }
                }
            }
        }
        assert!(known.len() > 10);
        let mut sets: Vec<Vec<String>> = vec![vec![], known.clone()];
        sets.extend(known.iter().map(|c| vec![c.clone()]));
        sets.extend((0..known.len()).map(|i| {
            let mut all = known.clone();
            all.remove(i);
            all
        }));
        for capabilities in &sets {
            for arch in Arch::all() {
                for kernel in [(3, 10), (4, 7), (4, 8), (5, 10), (6, 18)] {
                    let context = Context { capabilities, arch, kernel };
                    let ours = docker_default(&context);
                    let theirs = docker_profile(&json, &context).unwrap();
                    assert_eq!(sorted(ours), sorted(theirs), "{context:?}");
                }
            }
        }
    }

    #[test]
    fn the_default_names_only_known_calls_and_fits() {
        for arch in Arch::all() {
            for capabilities in [vec![], vec!["CAP_SYS_ADMIN".to_owned()]] {
                let context = Context { capabilities: &capabilities, arch, kernel: (6, 18) };
                let program = compile_for(arch, &docker_default(&context)).unwrap();
                assert_eq!(program.unknown, Vec::<String>::new());
                assert!(program.filter.len() < 1000, "{arch:?}: {}", program.filter.len());
            }
        }
    }

    #[test]
    fn old_and_new_forms_of_names() {
        let old = br#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"name": "kill", "action": "SCMP_ACT_ERRNO", "args": null}]}"#;
        let new = br#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": null, "archMap": [],
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "comment": "x",
                "includes": null, "excludes": {}}]}"#;
        let old = docker_profile(old, &context(&[])).unwrap();
        assert_eq!(old, docker_profile(new, &context(&[])).unwrap());
        assert_eq!(old.syscalls[0].names, ["kill"]);
        assert!(compile_for(Arch::X86_64, &old).is_ok());
    }

    #[test]
    fn conditions() {
        let includes = |filter: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{{"names": ["kill"], "action": "SCMP_ACT_ERRNO", {filter}}}]}}"#
            )
        };
        let caps = ["CAP_A".to_owned(), "CAP_B".to_owned()];
        let cases = [
            (r#""includes": {"caps": ["CAP_A"]}"#, true),
            (r#""includes": {"caps": ["CAP_A", "CAP_C"]}"#, false),
            (r#""excludes": {"caps": ["CAP_C", "CAP_A"]}"#, false),
            (r#""excludes": {"caps": ["CAP_C"]}"#, true),
            (r#""includes": {"arches": ["arm64", "amd64"]}"#, true),
            (r#""includes": {"arches": ["arm64"]}"#, false),
            (r#""excludes": {"arches": ["amd64"]}"#, false),
            (r#""includes": {"minKernel": "6.18"}"#, true),
            (r#""includes": {"minKernel": "6.19"}"#, false),
            (r#""excludes": {"minKernel": "5.0"}"#, false),
            (r#""excludes": {"minKernel": "7.0"}, "includes": {"caps": ["CAP_B"]}"#, true),
        ];
        for (filter, applies) in cases {
            let json = includes(filter);
            let profile = docker_profile(json.as_bytes(), &context(&caps)).unwrap();
            assert_eq!(!profile.syscalls.is_empty(), applies, "{filter}");
        }
    }

    #[test]
    fn what_is_no_profile() {
        let cases = [
            ("{", "decode the seccomp profile: EOF while parsing an object at line 1 column 1"),
            ("{}", "the seccomp profile has no defaultAction"),
            (
                r#"{"defaultAction": "A", "architectures": ["x"], "archMap": [{"architecture": "x"}]}"#,
                "the seccomp profile has both architectures and archMap: it may have one",
            ),
            (
                r#"{"defaultAction": "A", "syscalls": [{"name": "a", "names": ["b"], "action": "A"}]}"#,
                "syscalls[0] of the seccomp profile has both name and names: it may have one",
            ),
            (
                r#"{"defaultAction": "A", "syscalls": [{"name": "a", "includes": {"minKernel": "new"}}]}"#,
                r#"syscalls[0] of the seccomp profile: "new" is not a kernel version as 4.8"#,
            ),
        ];
        for (json, message) in cases {
            let error = docker_profile(json.as_bytes(), &context(&[])).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn kernel_versions() {
        for (text, version) in [
            ("4.8", Some((4, 8))),
            ("6.1.0-18-amd64", Some((6, 1))),
            ("6.18-rc1", Some((6, 18))),
            ("6", None),
            ("6.", None),
            ("six.one", None),
            ("-1.2", None),
        ] {
            assert_eq!(kernel_version(text), version, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(json in proptest::prelude::any::<Vec<u8>>()) {
            let _ = docker_profile(&json, &context(&[]));
        }
    }
}
