//! Where hako keeps things, and what it says about itself.

use std::{fs, os::unix::fs::PermissionsExt};

use hako_tests::{
    Case,
    archive::{Entry, tar},
    image,
    install::Hako,
};
use serde_json::Value;

const PLACES: &str = "issue: places";

pub(crate) const CASES: &[Case] = &[
    Case::new("places-by-flags", PLACES, "--root and --run-root win over the environment", || {
        let hako = Hako::new();
        let (root, run) = (hako.place().join("other-root"), hako.place().join("other-run"));
        let (root_text, run_text) = (root.to_string_lossy(), run.to_string_lossy());
        let archive = image::busybox_archive();
        let words = [
            "--root",
            &root_text,
            "--run-root",
            &run_text,
            "load",
            "-q",
            "-i",
            &archive.to_string_lossy(),
        ];
        hako.call(&words).ok();
        assert!(root.join("hako.db").exists());
        hako.call(&["images", "-q"]).prints("");
        hako.call(&[
            "--root",
            &root_text,
            "--run-root",
            &run_text,
            "run",
            "--rm",
            "busybox:test",
            "true",
        ])
        .ok();
    }),
    Case::new("places-are-private", PLACES, "the state directories are 0700", || {
        let hako = Hako::with_busybox();
        hako.detached(&["--name", "box"], &["sleep", "1000"]);
        for directory in [hako.root(), hako.run_root()] {
            let mode = fs::metadata(&directory).expect("it was made").permissions().mode() & 0o077;
            // Either it is closed, or it can be passed and nothing below it be read.
            assert!(mode == 0 || mode == 0o011, "{}: {mode:o}", directory.display());
        }
    }),
    Case::new(
        "places-with-a-long-path",
        PLACES,
        "a path longer than a socket's name may be works",
        || {
            let hako = Hako::new();
            let long = hako.place().join(format!("{}/{}", "d".repeat(100), "e".repeat(60)));
            let (root, run) = (long.join("root"), long.join("run"));
            let (root, run) = (root.to_string_lossy(), run.to_string_lossy());
            let archive = image::busybox_archive();
            let places = ["--root", &*root, "--run-root", &*run];
            let call = |words: &[&str]| hako.call(&[&places, words].concat());
            call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
            call(&[
                "run",
                "-d",
                "--name",
                "box",
                "busybox:test",
                "sh",
                "-c",
                "echo logged; sleep 1000",
            ])
            .ok();
            call(&["exec", "box", "true"]).ok();
            call(&["stop", "-t", "0", "box"]).ok();
            call(&["logs", "box"]).prints("logged");
            call(&["rm", "box"]).ok();
        },
    ),
    Case::new(
        "places-with-strange-characters",
        PLACES,
        "spaces, commas, colons, quotes and backslashes work",
        || {
            let hako = Hako::new();
            let strange = hako.place().join("a b,c:d\\e\"f'g=ü");
            let (root, run) = (strange.join("root"), strange.join("run"));
            let (root, run) = (root.to_string_lossy(), run.to_string_lossy());
            let archive = image::busybox_archive();
            let places = ["--root", &*root, "--run-root", &*run];
            hako.call(&[&places[..], &["load", "-q", "-i", &archive.to_string_lossy()]].concat())
                .ok();
            hako.call(&[&places[..], &["run", "--rm", "busybox:test", "echo", "fine"]].concat())
                .prints("fine");
        },
    ),
    Case::new(
        "places-with-long-paths",
        "mount(2): all options in one page; fsconfig(2): 256 bytes each",
        "a store with a long path takes images of many layers",
        || {
            let hako = Hako::new();
            let layer = |n: usize| {
                let name = format!("layer{n}");
                tar(&[Entry::file(&name, 0o644, "x")])
            };
            let mut image = image::Image::busybox("many:1");
            image.layers.extend((0..29).map(layer));
            let archive = hako.place().write("many.tar", image::pack(&image.docker_archive()));
            // Paths with a backslash are not made relative: overlayfs gets their descriptors.
            for name in ["d".repeat(190), format!("\\{}", "d".repeat(190))] {
                let long = hako.place().join(name);
                let (root, run) = (long.join("root"), long.join("run"));
                let (root, run) = (root.to_string_lossy(), run.to_string_lossy());
                let places = ["--root", &*root, "--run-root", &*run];
                let call = |words: &[&str]| hako.call(&[&places, words].concat());
                call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
                let script = "ls /layer* | wc -l; echo x >/new; cat /new";
                call(&["run", "--rm", "many:1", "sh", "-c", script]).prints("29\nx");
            }
        },
    ),
    Case::new("info", PLACES, "info says what is in use", || {
        let hako = Hako::new();
        let root = hako.root().to_string_lossy().into_owned();
        hako.call(&["info"]).says(&root).says("overlay").says("groups");
        let output = hako.call(&["info", "--format", "json"]);
        let value: Value =
            serde_json::from_str(output.ok()).unwrap_or_else(|error| panic!("{error}\n{output}"));
        assert!(value.is_object());
        assert!(output.stdout.contains(&root), "{output}");
    }),
    Case::new("version", PLACES, "version says which", || {
        let hako = Hako::new();
        hako.call(&["version"]).says(env!("CARGO_PKG_VERSION"));
        hako.call(&["--version"]).says(env!("CARGO_PKG_VERSION"));
        let output = hako.call(&["version", "--format", "json"]);
        let value: Value =
            serde_json::from_str(output.ok()).unwrap_or_else(|error| panic!("{error}\n{output}"));
        assert!(value.to_string().contains(env!("CARGO_PKG_VERSION")), "{output}");
    }),
    Case::new(
        "help",
        "docker(1)",
        "--help of every command is on standard output, exit code 0",
        || {
            let hako = Hako::new();
            hako.call(&["--help"]).says("run").exits(0);
            for verb in [
                "run", "ps", "logs", "exec", "stop", "kill", "wait", "rm", "inspect", "load",
                "save", "images", "rmi", "tag", "info", "version", "history",
            ] {
                hako.call(&[verb, "--help"]).says("Usage").exits(0);
            }
        },
    ),
    Case::new(
        "tour-image",
        "issue: one command",
        "hako:tour is inside hako, and shows the isolation",
        || {
            let hako = Hako::new();
            let output = hako.call(&["run", "--rm", "hako:tour"]);
            output.exits(0);
            for word in [
                "PID", "mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time", "seccomp",
                "cap",
            ] {
                let found = output.stdout.to_lowercase().contains(&word.to_lowercase());
                assert!(found, "the tour does not show {word}\n{output}");
            }
            hako.call(&["run", "--rm", "hako:tour", "env"]).says("PATH=");
            hako.call(&["run", "--rm", "hako:tour", "ls", "/"]).says("proc");
        },
    ),
];
