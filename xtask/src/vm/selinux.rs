//! The guest's SELinux policy: Debian's base with a module of ours, linked into what a kernel loads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{At, Error, Result, output};
use super::packages::Packages;

/// Builds the policy, and returns its file.
pub(crate) fn policy(packages: &Packages, workspace: &Path, cache: &Path) -> Result<PathBuf> {
    let modules = packages.package("selinux-policy-default", "bookworm")?;
    let tools = packages.package_and_needed("semodule-utils", "bookworm")?;
    let compiler = packages.package_and_needed("checkpolicy", "bookworm")?;
    let dir = cache.join("selinux");
    fs::create_dir_all(&dir).at("mkdir", &dir)?;
    let path = |name: &str| dir.join(name);

    let base = modules.join("usr/share/selinux/default/base.pp.bz2");
    let plain = output(Command::new("bzip2").arg("-dc").arg(&base)).map_err(unavailable)?;
    fs::write(path("base.pp"), plain).at("write", &path("base.pp"))?;
    let source = workspace.join("tests/vm/selinux.te");
    for (root, program, arguments) in [
        (
            &compiler,
            "checkmodule",
            vec!["-m".into(), "-M".into(), "-o".into(), path("hako.mod"), source],
        ),
        (
            &tools,
            "semodule_package",
            vec!["-o".into(), path("hako.pp"), "-m".into(), path("hako.mod")],
        ),
        (
            &tools,
            "semodule_link",
            vec!["-o".into(), path("all.pp"), path("base.pp"), path("hako.pp")],
        ),
        // Without the base's assertions: they forbid that a program has no label of its own, as all in the guest.
        (&tools, "semodule_expand", vec!["-a".into(), path("all.pp"), path("policy")]),
    ] {
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
            .map(|dir| root.join(dir).display().to_string());
        let mut command = Command::new(root.join("usr/bin").join(program));
        output(command.args(&arguments).env("LD_LIBRARY_PATH", libraries.join(":")))?;
    }
    Ok(path("policy"))
}

fn unavailable(error: Error) -> Error {
    Error::Unavailable { what: "the SELinux policy".to_owned(), why: error.to_string() }
}
