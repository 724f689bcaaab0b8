//! Holds the workspace to ARCHITECTURE.md: who may use whom, where `unsafe` may stand, what
//! hako-runc is made of, and how dependencies enter.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Layers, bottom up: the directory of their crates, and the layers that these may use.
///
/// A crate may always use the others of its own layer; cargo refuses circles.
const LAYERS: &[(&str, &[&str])] = &[
    ("crates/spec", &[]),
    ("crates/base", &[]),
    ("crates/image", &["crates/spec", "crates/base"]),
    ("crates/run", &["crates/spec", "crates/base"]),
    ("crates/build", &["crates/spec", "crates/base", "crates/image", "crates/run"]),
    (
        "crates/engine",
        &["crates/spec", "crates/base", "crates/image", "crates/run", "crates/build"],
    ),
    ("crates/cli", &["crates/engine", "crates/build", "crates/spec"]),
    ("bin/hako", &["crates/cli", "crates/engine", "crates/spec"]),
    ("bin/hako-runc", &["crates/run", "crates/spec", "crates/base"]),
    ("guest", &[]),
    ("tests", &["crates/spec"]),
    ("benches", &["tests"]),
    ("xtask", &[]),
];

/// Everything that may be linked into hako-runc. It starts once for each container: a crate more
/// is start-up time and attack surface for all of them.
const RUNC_TREE: &[&str] = &[
    "bitflags",
    "block-buffer",
    "cfg-if",
    "const-oid",
    "cpufeatures",
    "crypto-common",
    "digest",
    "equivalent",
    "foldhash",
    "hako-cgroup",
    "hako-monitor",
    "hako-oci",
    "hako-root",
    "hako-runc",
    "hako-runtime",
    "hako-seccomp",
    "hako-sys",
    "hashbrown",
    "hybrid-array",
    "indexmap",
    "itoa",
    "lexopt",
    "libc",
    "linux-raw-sys",
    "memchr",
    "rustix",
    "serde",
    "serde_core",
    "serde_json",
    "sha2",
    "thiserror",
    "typenum",
    "zmij",
];

/// Names of places that become attics.
const ATTICS: &[&str] =
    &["common", "utils", "util", "types", "helpers", "helper", "misc", "shared", "core"];

/// The one crate with `unsafe` code.
const UNSAFE_CRATE: &str = "hako-sys";

/// Programs that are nothing but system calls may hold some of their own.
const UNSAFE_PROGRAMS: &[&str] = &["hako-tour"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent").to_path_buf()
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

fn metadata(arguments: &[&str]) -> Value {
    let output = cargo(&["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text in {key} of {value}"))
}

/// A package of the workspace.
struct Package {
    name: String,
    /// Directory, relative to the root.
    place: String,
    /// Names of what it is made of. What only its build script or its tests use is not in it.
    uses: Vec<String>,
    /// Files that cargo compiles first, of what is shipped or helps to build it; not of tests.
    roots: Vec<PathBuf>,
}

fn packages() -> Vec<Package> {
    let metadata = metadata(&["--no-deps"]);
    let root = root();
    list(&metadata, "packages")
        .iter()
        .map(|package| {
            let manifest = Path::new(text(package, "manifest_path"));
            let place = manifest.parent().expect("a manifest has a parent");
            Package {
                name: text(package, "name").to_owned(),
                place: place
                    .strip_prefix(&root)
                    .expect("members are below the root")
                    .to_string_lossy()
                    .into_owned(),
                uses: list(package, "dependencies")
                    .iter()
                    .filter(|dependency| dependency["kind"].is_null())
                    .map(|dependency| text(dependency, "name").to_owned())
                    .collect(),
                roots: list(package, "targets")
                    .iter()
                    .filter(|target| list(target, "kind").iter().all(|kind| kind != "test"))
                    .map(|target| text(target, "src_path").into())
                    .collect(),
            }
        })
        .collect()
}

fn layer_of(place: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    LAYERS.iter().find(|(directory, _)| Path::new(place).starts_with(directory))
}

#[test]
fn crates_use_only_the_layers_below_them() {
    let packages = packages();
    let places: BTreeMap<&str, &str> =
        packages.iter().map(|package| (package.name.as_str(), package.place.as_str())).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let Some((layer, may_use)) = layer_of(&package.place) else {
            wrong.push(format!(
                "{} is in no layer: add {} to ARCHITECTURE.md and here",
                package.name, package.place
            ));
            continue;
        };
        for used in &package.uses {
            let Some(place) = places.get(used.as_str()) else { continue };
            let Some((used_layer, _)) = layer_of(place) else { continue };
            let allowed = used_layer == layer || may_use.contains(used_layer);
            if !allowed {
                wrong
                    .push(format!("{} ({layer}) must not use {used} ({used_layer})", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packages_are_named_after_their_place() {
    for package in packages() {
        let last = Path::new(&package.place)
            .file_name()
            .expect("a place has a name")
            .to_string_lossy()
            .into_owned();
        if package.place.starts_with("crates/") {
            assert_eq!(package.name, format!("hako-{last}"), "the package in {}", package.place);
            assert_eq!(
                package.place.split('/').count(),
                3,
                "crates/<layer>/<crate>: {}",
                package.place
            );
        }
        for attic in ATTICS {
            assert!(
                last != *attic && !package.name.ends_with(&format!("-{attic}")),
                "{} is an attic",
                package.name
            );
        }
    }
}

#[test]
fn no_module_is_an_attic() {
    for package in packages().iter().filter(|package| package.place.starts_with("crates/")) {
        for file in rust_files(&root().join(&package.place)) {
            let stem = file.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            // `core` and `types` say nothing as modules either; `shared` and `misc` even less.
            assert!(
                !ATTICS.contains(&stem.as_str()),
                "{} is an attic: name its subject",
                file.display()
            );
        }
    }
}

#[test]
fn unsafe_stands_in_one_crate() {
    let mut wrong = Vec::new();
    for package in packages() {
        if package.name == UNSAFE_CRATE || UNSAFE_PROGRAMS.contains(&package.name.as_str()) {
            continue;
        }
        for file in &package.roots {
            let source = std::fs::read_to_string(file).expect("a target's root can be read");
            if !source.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
                wrong.push(file.display().to_string());
            }
        }
    }
    // A test's own file is a crate too, and needs no line of its own: it just has none of it.
    for package in packages().iter().filter(|package| package.name != UNSAFE_CRATE) {
        for file in rust_files(&root().join(&package.place).join("tests")) {
            let source = std::fs::read_to_string(&file).expect("a source file can be read");
            let words = [["unsafe", " {"].concat(), ["allow(", "unsafe_code)"].concat()];
            if words.iter().any(|word| source.contains(word)) {
                wrong.push(file.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "without #![forbid(unsafe_code)]:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let mut wrong = Vec::new();
    for package in packages() {
        for file in rust_files(&root().join(&package.place)) {
            let source = std::fs::read_to_string(&file).expect("a source file can be read");
            let is_test_module = file.ends_with("tests.rs");
            if !source.starts_with("//!") && !is_test_module {
                wrong.push(file.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "files that do not begin with a //! line:\n{}", wrong.join("\n"));
}

#[test]
fn hako_runc_is_made_of_these() {
    // `cargo tree` and not the metadata: that joins the features that all members ask for, and so
    // shows crates that hako-runc, built alone, is not made of.
    let output = cargo(&["tree", "--locked", "--package", "hako-runc", "--target"])
        .args(["x86_64-unknown-linux-gnu", "--edges", "normal,no-proc-macro", "--prefix", "none"])
        .args(["--format", "{p}"])
        .output()
        .expect("cargo tree starts");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("cargo tree prints UTF-8");
    let tree: BTreeSet<&str> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected: BTreeSet<&str> = RUNC_TREE.iter().copied().collect();
    let more: Vec<_> = tree.difference(&expected).collect();
    let fewer: Vec<_> = expected.difference(&tree).collect();
    assert!(
        more.is_empty(),
        "new in hako-runc: {more:?}; if it must be, say why in Cargo.toml and list it here"
    );
    assert!(fewer.is_empty(), "gone from hako-runc: {fewer:?}; take it from this list");
}

#[test]
fn dependencies_come_from_the_table_and_have_a_reason() {
    let manifest =
        std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml can be read");
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            continue;
        }
        if !inside || line.is_empty() || line.starts_with('#') || line.contains("path = ") {
            continue;
        }
        let reason = line.split_once(" # ").map(|(_, reason)| reason.trim());
        assert!(reason.is_some_and(|reason| reason.len() > 8), "without a reason: {line}");
    }
    for package in packages() {
        let file = root().join(&package.place).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&file).expect("a manifest can be read");
        let mut inside = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                inside = line.ends_with("dependencies]");
                continue;
            }
            let from_table = line.contains("workspace = true");
            assert!(
                !inside || line.is_empty() || line.starts_with('#') || from_table,
                "{}: not from the workspace's table: {line}",
                file.display()
            );
        }
    }
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("a directory can be listed").path();
            if path.is_dir() && !path.ends_with("target") {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
