//! Hostile images: layers, manifests, configurations and archives that attack who loads them.
//!
//! Each case may end in two ways: `hako load` (or `run`) refuses with an error, or it is harmless.
//! In both no file outside of the store is made, changed or read, memory stays bounded, and nothing
//! panics. Which of the two is asserted only where it matters.

#![forbid(unsafe_code)]

mod archives;
mod documents;
mod layers;
mod roots;

use std::{fs, path::PathBuf};

use hako_tests::{
    archive::{Entry, tar},
    command::{self, Output},
    image::{Files, Image, busybox_layer, pack},
    install::Hako,
};

fn main() -> std::process::ExitCode {
    hako_tests::run("hostile", &[layers::CASES, archives::CASES, documents::CASES, roots::CASES])
}

/// An attack: an installation, and a directory of the host that the image tries to reach.
struct Attack {
    hako: Hako,
    canary: PathBuf,
}

impl Attack {
    fn new() -> Self {
        let hako = Hako::new();
        let canary = hako.place().directory("canary");
        fs::write(canary.join("file"), "secret of the host").expect("our own file");
        Self { hako, canary }
    }

    /// The canary directory as a path that an image can name.
    fn path(&self) -> String {
        self.canary.to_string_lossy().into_owned()
    }

    /// `../../…` up to the root, then the canary.
    fn climbing(&self) -> String {
        format!("{}{}", "../".repeat(40).trim_end_matches('/'), self.path())
    }

    /// Loads an image of the busybox layer and these on top.
    #[track_caller]
    fn load_layers(&self, layers: &[Vec<Entry>]) -> Output {
        let mut all = vec![busybox_layer()];
        all.extend(layers.iter().map(|entries| tar(entries)));
        self.load_image(&Image::new("evil:1", all))
    }

    #[track_caller]
    fn load_image(&self, image: &Image) -> Output {
        self.load_files(&image.docker_archive())
    }

    #[track_caller]
    fn load_files(&self, files: &Files) -> Output {
        self.load_bytes(&pack(files))
    }

    /// Loads an archive, with bounded address space.
    #[track_caller]
    fn load_bytes(&self, bytes: &[u8]) -> Output {
        let path = self.hako.place().write("evil.tar", bytes);
        let output = self.bounded(&["load", "-q", "-i", &path.to_string_lossy()]);
        self.check(&output);
        output
    }

    /// Runs a script in the image; it may be refused.
    #[track_caller]
    fn run(&self, options: &[&str], script: &str) -> Output {
        let words =
            [&["run", "--rm", "--network", "none"], options, &["evil:1", "sh", "-c", script]]
                .concat();
        let output = self.bounded(&words);
        self.check(&output);
        output
    }

    /// `hako <words>` in 1.5 GiB of address space: who reads without bounds fails here.
    #[track_caller]
    fn bounded(&self, words: &[&str]) -> Output {
        let inner = self.hako.command(words);
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", "ulimit -v 1572864; exec \"$@\"", "sh"])
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        command::run(&mut shell)
    }

    /// What must hold whatever happened.
    #[track_caller]
    fn check(&self, output: &Output) {
        output.is_sane();
        assert!(
            !output.stdout.contains("secret of the host"),
            "the host's file was read\n{output}"
        );
        let names: Vec<_> = fs::read_dir(&self.canary)
            .unwrap_or_else(|error| panic!("the host's directory is gone: {error}\n{output}"))
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["file"], "the host's directory was changed\n{output}");
        let file = self.canary.join("file");
        let content = fs::read_to_string(&file).expect("it is there");
        assert_eq!(content, "secret of the host", "the host's file was changed\n{output}");
        let links =
            std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&file).expect("it is there"));
        assert_eq!(links, 1, "the host's file was linked\n{output}");
        assert!(
            output.code == 0 || !output.stderr.trim().is_empty(),
            "it failed without a word\n{output}"
        );
    }

    /// Asserts that it was refused, and that nothing of it stays in the store.
    #[track_caller]
    fn refused(&self, output: &Output) {
        output.fails();
        self.hako.call(&["images", "-q"]).prints("");
    }
}
