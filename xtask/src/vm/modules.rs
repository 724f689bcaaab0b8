//! Chooses kernel modules for the guest and writes the index by which `modprobe`, and so the kernel, finds them.
//!
//! Debian makes `modules.dep` when a kernel is installed; ours is only unpacked. What the index needs stands
//! in each module's `.modinfo` section as `depends=a,b` and `alias=pattern`, NUL-terminated.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Tree;
use super::error::{At, Error, Result, output};

/// What a container host uses; what they depend on is added. Loaded by the kernel on demand.
const WANTED: &[&str] = &[
    // The machine itself.
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "zram",
    "lzo_rle",
    "null_blk",
    "loop",
    "bfq",
    // Root file systems.
    "overlay",
    "erofs",
    "squashfs",
    "fuse",
    // Container networks.
    "veth",
    "bridge",
    "br_netfilter",
    "macvlan",
    "ipvlan",
    "dummy",
    "tun",
    "vxlan",
    "ifb",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_redir",
    "nft_reject_inet",
    "nft_compat",
    "nfnetlink",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_multiport",
    "xt_nat",
    "xt_tcpudp",
    "sch_tbf",
    "sch_ingress",
    "sch_fq_codel",
    "act_mirred",
    "cls_u32",
    // Foreign architectures; what socket families a profile must refuse.
    "binfmt_misc",
    "af_packet",
    "vsock",
];

/// Adds the wanted modules of an unpacked kernel package, uncompressed, and their index.
pub(crate) fn add(tree: &mut Tree, kernel: &Path, release: &str, cache: &Path) -> Result<()> {
    let root = kernel.join("lib/modules").join(release);
    let mut found = BTreeMap::new();
    walk(&root.join("kernel"), &mut found)?;
    let cache = cache.join(format!("modules-{release}"));
    fs::create_dir_all(&cache).at("mkdir", &cache)?;

    let mut index = Index::default();
    let mut left: Vec<String> = WANTED.iter().map(|name| (*name).to_owned()).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = left.pop() {
        let Some(path) = found.get(&name) else {
            continue; // Built in, or not of this kernel.
        };
        if !seen.insert(name.clone()) {
            continue;
        }
        let plain = decompress(path, &cache.join(format!("{name}.ko")))?;
        let info = Info::of(&fs::read(&plain).at("read", &plain)?);
        let relative = format!("kernel/{name}.ko");
        tree.file(format!("/lib/modules/{release}/{relative}"), &plain)?;
        left.extend(info.depends.iter().cloned());
        index.modules.insert(name, (relative, info));
    }
    let builtin = root.join("modules.builtin");
    tree.file(format!("/lib/modules/{release}/modules.builtin"), &builtin)?;
    let (dep, alias) = index.write();
    tree.bytes(format!("/lib/modules/{release}/modules.dep"), 0o644, dep);
    tree.bytes(format!("/lib/modules/{release}/modules.alias"), 0o644, alias);
    tree.bytes(format!("/lib/modules/{release}/modules.symbols"), 0o644, "");
    Ok(())
}

/// Module names, as the kernel writes them, to files.
fn walk(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in dir.read_dir().at("opendir", dir)? {
        let path = entry.at("readdir", dir)?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if let Some(file) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, _)) = file.split_once(".ko")
        {
            found.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn decompress(from: &Path, to: &Path) -> Result<PathBuf> {
    if to.exists() {
        return Ok(to.to_owned());
    }
    let content = match from.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => output(Command::new("xz").arg("-dc").arg(from)).map_err(|error| {
            Error::Unavailable { what: from.display().to_string(), why: error.to_string() }
        })?,
        Some("ko") => fs::read(from).at("read", from)?,
        _ => {
            return Err(Error::Unavailable {
                what: from.display().to_string(),
                why: "kernel modules compressed in a way this tool does not read".to_owned(),
            });
        }
    };
    let staged = to.with_extension("new");
    fs::write(&staged, content).at("write", &staged)?;
    fs::rename(&staged, to).at("rename", to)?;
    Ok(to.to_owned())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    depends: Vec<String>,
    aliases: Vec<String>,
}

impl Info {
    fn of(module: &[u8]) -> Self {
        let mut info = Self::default();
        for field in module.split(|byte| *byte == 0) {
            let Ok(field) = std::str::from_utf8(field) else {
                continue;
            };
            if let Some(names) = field.strip_prefix("depends=") {
                let names = names.split(',').filter(|name| !name.is_empty());
                info.depends.extend(names.map(|name| name.replace('-', "_")));
            } else if let Some(alias) = field.strip_prefix("alias=") {
                info.aliases.push(alias.to_owned());
            }
        }
        info
    }
}

#[derive(Default)]
struct Index {
    /// Name to path below the release's directory, and what the module says of itself.
    modules: BTreeMap<String, (String, Info)>,
}

impl Index {
    /// `modules.dep` (all that must be loaded before, nearest first) and `modules.alias`.
    fn write(&self) -> (String, String) {
        let (mut dep, mut alias) = (String::new(), String::new());
        for (name, (path, info)) in &self.modules {
            let mut before = Vec::new();
            self.closure(name, &mut before);
            dep.push_str(&format!("{path}:"));
            for name in before {
                dep.push_str(&format!(" {}", self.modules[name].0));
            }
            dep.push('\n');
            for pattern in &info.aliases {
                alias.push_str(&format!("alias {pattern} {name}\n"));
            }
        }
        (dep, alias)
    }

    fn closure<'a>(&'a self, name: &str, into: &mut Vec<&'a str>) {
        let Some((_, info)) = self.modules.get(name) else {
            return;
        };
        for needed in &info.depends {
            if let Some((needed, _)) = self.modules.get_key_value(needed) {
                // The deeper one must stay behind the shallower: it is loaded first.
                into.retain(|present| present != needed);
                into.push(needed);
                self.closure(needed, into);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modinfo_is_read() {
        let module = b"\x7fELF\0license=GPL\0depends=nf-conntrack,nf_nat\0alias=fs-overlay\0alias=rtnl\0\xff\0";
        assert_eq!(
            Info::of(module),
            Info {
                depends: vec!["nf_conntrack".into(), "nf_nat".into()],
                aliases: vec!["fs-overlay".into(), "rtnl".into()],
            }
        );
        assert_eq!(Info::of(b"depends=\0"), Info::default());
    }

    #[test]
    fn dependencies_are_transitive_and_ordered() {
        let mut index = Index::default();
        for (name, depends) in [("a", vec!["b", "c"]), ("b", vec!["c"]), ("c", vec!["built_in"])] {
            let depends = depends.into_iter().map(str::to_owned).collect();
            let info = Info { depends, aliases: vec![format!("{name}-*")] };
            index.modules.insert(name.into(), (format!("k/{name}.ko"), info));
        }
        let (dep, alias) = index.write();
        assert_eq!(dep, "k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\n");
        assert_eq!(alias, "alias a-* a\nalias b-* b\nalias c-* c\n");
    }
}
