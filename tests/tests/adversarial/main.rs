//! Attacks on the runtime, named by the CVE that they come from; each is performed, and must fail.
//!
//! They run on any runtime (`HAKO_TEST_RUNTIME=runc`), so that peers can be compared: `cargo xtask
//! matrix adversarial`. The runtime is used as a copy, so that an attack that succeeds on a peer
//! does not reach the machine's own.
//!
//! Races run a bounded number of rounds: `HAKO_TEST_ROUNDS`, 200 by default.

#![forbid(unsafe_code)]

mod configuration;
mod inside;
mod privileges;
mod races;
mod rootfs;

use std::{fs, path::PathBuf};

use hako_tests::{bundle::Bundle, command::Output, place::Place, runtime::Container};

fn main() -> std::process::ExitCode {
    hako_tests::run(
        "adversarial",
        &[rootfs::CASES, inside::CASES, privileges::CASES, races::CASES, configuration::CASES],
    )
}

/// How many rounds a race runs.
fn rounds() -> u32 {
    std::env::var("HAKO_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200)
}

/// A directory of the host that an attack tries to reach.
struct Canary {
    place: Place,
}

impl Canary {
    fn new() -> Self {
        let place = Place::new("canary");
        place.write("file", "secret of the host");
        // What an ordinary user has to lose is its own.
        hako_tests::caller::give(place.path());
        Self { place }
    }

    fn path(&self) -> String {
        self.place.path().to_string_lossy().into_owned()
    }

    /// The same as a path that climbs out of any root first.
    fn climbing(&self) -> String {
        format!("{}{}", "../".repeat(40).trim_end_matches('/'), self.path())
    }

    fn file(&self) -> PathBuf {
        self.place.join("file")
    }

    /// Nothing was made, changed or mounted there, and nothing of it was read.
    #[track_caller]
    fn check(&self, output: &Output) {
        output.is_sane();
        assert!(
            !output.stdout.contains("secret of the host"),
            "the host's file was read\n{output}"
        );
        let entries = fs::read_dir(self.place.path()).expect("it is still there");
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["file"], "the host's directory was changed\n{output}");
        let content = fs::read_to_string(self.file()).expect("it is still there");
        assert_eq!(content, "secret of the host", "the host's file was changed\n{output}");
        assert!(self.place.mounts().is_empty(), "something is mounted there\n{output}");
    }
}

/// Runs a bundle that was changed; it may be refused.
#[track_caller]
fn attack(script: &str, change: impl FnOnce(&mut Bundle)) -> Output {
    let mut bundle = Bundle::sh(script);
    change(&mut bundle);
    Container::new(bundle).run()
}

/// Replaces a directory of the root filesystem by a link.
fn link_instead(bundle: &Bundle, name: &str, target: &str) {
    let path = bundle.rootfs(name);
    if path.is_dir() {
        fs::remove_dir_all(&path).expect("our own directory");
    } else if path.exists() {
        fs::remove_file(&path).expect("our own file");
    }
    std::os::unix::fs::symlink(target, path).expect("our own directory");
}

/// Removes the mounts at these destinations.
fn without_mounts(bundle: &mut Bundle, destinations: &[&str]) {
    if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
        mounts.retain(|mount| {
            let destination = mount["destination"].as_str().unwrap_or("");
            !destinations
                .iter()
                .any(|gone| destination == *gone || destination.starts_with(&format!("{gone}/")))
        });
    }
}
