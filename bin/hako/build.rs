//! Builds what `hako` carries inside itself: hako-runc, and the image `hako:tour`.
//!
//! Both programs are built by a nested cargo, for a static target, with the profile `embedded`.
//! Its target directory is `<target>/embedded`: shared by debug and release builds of hako, and
//! another than the one whose lock the cargo that runs this script holds.
//!
//! `HAKO_EMBEDDED_DIR` names a directory with ready-made `hako-runc` and `hako-tour` instead, for
//! packagers who build the parts apart.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use hako_oci::Digest;

#[path = "build/tour_image.rs"]
mod tour_image;

/// Packages whose programs are embedded; each program is named like its package.
const PROGRAMS: &[&str] = &["hako-runc", "hako-tour"];
const PREBUILT: &str = "HAKO_EMBEDDED_DIR";
const STATIC_GLIBC: &str = "-Ctarget-feature=+crt-static";

type Result<T> = std::result::Result<T, String>;

fn main() {
    if let Err(problem) = run() {
        // Cargo shows this line first and the nested build's own messages after it.
        println!("cargo::error={problem}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let programs = match env::var_os(PREBUILT) {
        Some(dir) => PathBuf::from(dir),
        None => build(&out)?,
    };
    for name in PROGRAMS {
        let (from, to) = (programs.join(name), out.join(name));
        println!("cargo::rerun-if-changed={}", from.display());
        fs::copy(&from, &to).map_err(|e| about(&from, e))?;
    }
    let runtime = out.join("hako-runc");
    let runtime = Digest::sha256(&fs::read(&runtime).map_err(|e| about(&runtime, e))?);
    println!("cargo::rustc-env=HAKO_RUNC_ID={}", runtime.hex());
    let tour = out.join("hako-tour");
    let program = fs::read(&tour).map_err(|e| about(&tour, e))?;
    let image = tour_image::assemble(&program, &architecture()?)?;
    let archive = out.join("tour.tar");
    fs::write(&archive, image.archive).map_err(|e| about(&archive, e))?;
    println!("cargo::rustc-env=HAKO_TOUR_ID={}", image.id);
    Ok(())
}

/// Builds the programs and returns the directory they are in.
fn build(out: &Path) -> Result<PathBuf> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    let workspace = workspace.canonicalize().map_err(|e| about(&workspace, e))?;
    // OUT_DIR is <target>[/<triple>]/<profile>/build/<package>/out.
    let target_dir = out.ancestors().nth(4).ok_or("OUT_DIR is not where cargo puts it")?;
    let target_dir = target_dir.join("embedded");
    let (triple, flags) = static_target()?;

    let mut cargo = Command::new(variable("CARGO")?);
    clean_environment(&mut cargo);
    cargo
        .current_dir(&workspace)
        .args(["build", "--locked", "--quiet", "--profile", "embedded", "--target", &triple])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(flags, &workspace)?);
    for name in PROGRAMS {
        cargo.args(["--package", name]);
    }
    let output = cargo.output().map_err(|e| format!("nested cargo: {e}"))?;
    // On stderr: cargo shows a build script's stderr when it fails, and keeps it when it does not.
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!(
            "building {} for {triple} failed ({}): see below",
            PROGRAMS.join(" and "),
            output.status
        ));
    }

    let built = target_dir.join(&triple).join("embedded");
    rerun_with_sources(&workspace, &built)?;
    Ok(built)
}

/// Flags of the nested build. Paths of this machine stay out of the programs, so that the same
/// sources give the same bytes wherever they are built.
fn rust_flags(flags: &str, workspace: &Path) -> Result<String> {
    let home = match env::var("CARGO_HOME") {
        Ok(home) => home,
        Err(_) => format!("{}/.cargo", variable("HOME")?),
    };
    let remap = |from: &str, to: &str| format!("--remap-path-prefix={from}={to}");
    let workspace = workspace.to_str().ok_or("the workspace's path is not UTF-8")?;
    let mut all = vec![remap(&home, "cargo"), remap(workspace, "hako")];
    all.extend(Some(flags.to_owned()).filter(|f| !f.is_empty()));
    // Cargo separates encoded flags by this character.
    Ok(all.join("\x1f"))
}

/// The target to build for and the flags that make it static: musl where its standard library is
/// installed, glibc linked statically otherwise.
fn static_target() -> Result<(String, &'static str)> {
    let musl = format!("{}-unknown-linux-musl", variable("CARGO_CFG_TARGET_ARCH")?);
    if has_std(&musl)? {
        return Ok((musl, ""));
    }
    let own = variable("TARGET")?;
    println!(
        "cargo::warning=no standard library for {musl}: hako-runc is linked against static glibc, which starts more slowly (`rustup target add {musl}` installs it)"
    );
    Ok((own, STATIC_GLIBC))
}

/// Whether the sysroot has a standard library for `triple`. An unknown triple has none.
fn has_std(triple: &str) -> Result<bool> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", triple])
        .output()
        .map_err(|e| format!("rustc --print target-libdir: {e}"))?;
    let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if !output.status.success() || !dir.is_dir() {
        return Ok(false);
    }
    let entries = fs::read_dir(&dir).map_err(|e| about(&dir, e))?;
    Ok(entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with("libstd-")))
}

/// Takes out what is meant for the outer build: the flags, wrappers, profiles and targets that a
/// user or `cargo clippy` chose for it, and what cargo tells build scripts. What says where
/// packages come from, and the jobserver, stay.
fn clean_environment(cargo: &mut Command) {
    const KEPT: &[&str] = &["CARGO_HOME", "CARGO_MAKEFLAGS"];
    const KEPT_PREFIXES: &[&str] =
        &["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];
    const REMOVED: &[&str] = &[
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "DEBUG",
        "OPT_LEVEL",
        "NUM_JOBS",
        "LD_LIBRARY_PATH",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = KEPT.contains(&&*text) || KEPT_PREFIXES.iter().any(|p| text.starts_with(p));
        let outer = text.starts_with("CARGO_") || text == "CARGO" || REMOVED.contains(&&*text);
        if outer && !kept {
            cargo.env_remove(&name);
        }
    }
}

/// Asks cargo to run this script again when a source of the programs changes. Which those are is
/// in the dependency files that the nested cargo wrote: one line, `program: source source ...`.
fn rerun_with_sources(workspace: &Path, built: &Path) -> Result<()> {
    let mut watched = BTreeSet::from([workspace.join("Cargo.toml"), workspace.join("Cargo.lock")]);
    for name in PROGRAMS {
        let path = built.join(format!("{name}.d"));
        let text = fs::read_to_string(&path).map_err(|e| about(&path, e))?;
        let (_, sources) = text.split_once(": ").ok_or_else(|| format!("{path:?}: no rule"))?;
        // Blanks within a path are escaped.
        let sources = sources.trim_end().replace("\\ ", "\0");
        for source in sources.split(' ').map(|s| PathBuf::from(s.replace('\0', " "))) {
            let manifest = source.ancestors().map(|d| d.join("Cargo.toml")).find(|m| m.is_file());
            watched.extend(manifest);
            watched.insert(source);
        }
    }
    for path in watched {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    Ok(())
}

/// The processor in the image specification's words.
fn architecture() -> Result<String> {
    let name = variable("CARGO_CFG_TARGET_ARCH")?;
    Ok(hako_oci::platform::normalized_architecture(&name).to_owned())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}

fn about(path: &Path, error: io::Error) -> String {
    format!("{}: {error}", path.display())
}
