//! Images: load in every layout, save for every reader, images, tag, rmi, history.

use std::{fs, process::Command};

use hako_tests::{
    Case,
    archive::gzip,
    binary, command,
    image::{self, Image, pack, unpack},
    install::Hako,
    place::Place,
};

const LOAD: &str = "docker load(1)";

/// Loads an archive from a file; it must then run.
#[track_caller]
fn loads_and_runs(bytes: &[u8]) {
    let hako = Hako::new();
    let path = hako.place().write("archive", bytes);
    hako.call(&["load", "-i", &path.to_string_lossy()]).says("Loaded image");
    hako.call(&["run", "--rm", "busybox:test", "cat", "/etc/os-release"]).says("hako-test");
}

fn busybox() -> Image {
    Image::busybox("busybox:test")
}

/// Compresses by a program of the system.
fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new(binary::tool(program));
    command.arg("-c");
    // Bytes, not text: through files.
    let place = Place::new("compress");
    let input = place.write("in", bytes);
    let output = place.join("out");
    let file = fs::File::create(&output).expect("our own file");
    let status = command.arg(&input).stdout(file).status().expect("it starts");
    assert!(status.success(), "{program}: {status}");
    fs::read(output).expect("it was written")
}

pub(crate) const CASES: &[Case] = &[
    Case::new("load-docker-archive", LOAD, "the layout of docker save before 25", || {
        loads_and_runs(&pack(&busybox().docker_archive()));
    }),
    Case::new("load-combined-archive", LOAD, "the layout of docker save since 25", || {
        loads_and_runs(&pack(&busybox().combined_archive()));
    }),
    Case::new("load-oci-archive", LOAD, "an OCI layout in a tar", || {
        loads_and_runs(&pack(&busybox().oci_layout()));
    }),
    Case::new("load-oci-archive-gzip-layers", LOAD, "with compressed layers", || {
        let mut image = busybox();
        image.gzip = true;
        loads_and_runs(&pack(&image.oci_layout()));
    }),
    Case::new("load-oci-directory", LOAD, "an OCI layout directory", || {
        let hako = Hako::new();
        let directory = hako.place().directory("layout");
        unpack(&busybox().oci_layout(), &directory);
        hako.call(&["load", "-i", &directory.to_string_lossy()]).says("Loaded image");
        hako.call(&["run", "--rm", "busybox:test", "true"]).ok();
    }),
    Case::new("load-gzip", LOAD, "a gzip archive", || {
        loads_and_runs(&gzip(&pack(&busybox().docker_archive())));
    }),
    Case::new("load-zstd", LOAD, "a zstd archive", || {
        loads_and_runs(&compressed("zstd", &pack(&busybox().docker_archive())));
    }),
    Case::new("load-xz", LOAD, "an xz archive", || {
        loads_and_runs(&compressed("xz", &pack(&busybox().docker_archive())));
    }),
    Case::new("load-bzip2", LOAD, "a bzip2 archive", || {
        loads_and_runs(&compressed("bzip2", &pack(&busybox().docker_archive())));
    }),
    Case::new("load-stdin", LOAD, "from standard input", || {
        let hako = Hako::new();
        hako.call_with(&["load"], &pack(&busybox().docker_archive()))
            .prints("Loaded image: busybox:test");
    }),
    Case::new("load-quiet", LOAD, "-q says only what was loaded", || {
        let hako = Hako::new();
        let archive = image::busybox_archive();
        hako.call(&["load", "-q", "-i", &archive.to_string_lossy()])
            .prints("Loaded image: busybox:test");
    }),
    Case::new("load-twice", LOAD, "loading again changes nothing", || {
        let hako = Hako::with_busybox();
        let before = hako.call(&["images", "--no-trunc"]).stdout;
        let archive = image::busybox_archive();
        hako.call(&["load", "-i", &archive.to_string_lossy()]).ok();
        assert_eq!(hako.call(&["images", "--no-trunc"]).stdout, before);
    }),
    Case::new("load-untagged", LOAD, "an image without a name is known by its ID", || {
        let hako = Hako::new();
        let mut image = busybox();
        image.names.clear();
        let path = hako.place().write("a.tar", pack(&image.docker_archive()));
        hako.call(&["load", "-i", &path.to_string_lossy()])
            .says(&format!("Loaded image ID: {}", image.id()));
        hako.call(&["run", "--rm", &image.id()[7..19], "true"]).ok();
    }),
    Case::new("load-real-alpine", "issue: the tour", "a real docker save of alpine 3.10", || {
        let archive = binary::data("archives/alpine-310.tar.gz");
        let hako = Hako::new();
        hako.call(&["load", "-i", &archive.to_string_lossy()]).says("Loaded image: alpine:3.10");
        hako.call(&["run", "--rm", "alpine:3.10", "cat", "/etc/os-release"])
            .says("Alpine Linux v3.10");
        hako.call(&["rmi", "alpine:3.10"]).says("Untagged: alpine:3.10").says("Deleted: sha256:");
    }),
    Case::new("load-real-archives", "shared data", "every other real archive loads", || {
        let hako = Hako::new();
        for name in
            ["alpine-311.tar.gz", "hello-world-v25.tar", "test_image_1.tar", "test_image_2.tar"]
        {
            let archive = binary::data(&format!("archives/{name}"));
            hako.call(&["load", "-i", &archive.to_string_lossy()]).says("Loaded image");
        }
    }),
    Case::new(
        "load-broken-archives",
        "shared data",
        "a manifest that is none is refused with a reason",
        || {
            let hako = Hako::new();
            let archive = binary::data("archives/null_manifest.tar");
            hako.call(&["load", "-i", &archive.to_string_lossy()]).exits(1).complains("manifest");
            hako.call(&["images", "-q"]).prints("");
            // The oldest layout has none, and is read by its `repositories`.
            let archive = binary::data("archives/no_manifest.tar");
            hako.call(&["load", "-i", &archive.to_string_lossy()]).says("Loaded image");
        },
    ),
    Case::new("images", "docker images(1)", "Docker's columns, and sizes", || {
        let hako = Hako::with_busybox();
        let output = hako.call(&["images"]);
        for word in ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "busybox", "test", "MB"] {
            output.says(word);
        }
        let id = busybox().id();
        hako.call(&["images", "-q"]).prints(&id[7..19]);
        hako.call(&["images", "-q", "--no-trunc"]).prints(&id);
        hako.call(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).prints("busybox:test");
        hako.call(&["images", "nosuch"]).says("REPOSITORY");
    }),
    Case::new(
        "tag-and-rmi",
        "docker tag(1)",
        "a tag is one more name; rmi removes names, then the image",
        || {
            let hako = Hako::with_busybox();
            hako.call(&["tag", "busybox:test", "example.org:5000/team/app:v1"]).ok();
            hako.call(&["run", "--rm", "example.org:5000/team/app:v1", "true"]).ok();
            let first = hako.call(&["rmi", "busybox:test"]);
            first.says("Untagged: busybox:test");
            assert!(!first.stdout.contains("Deleted"), "{first}");
            hako.call(&["run", "--rm", "example.org:5000/team/app:v1", "true"]).ok();
            hako.call(&["rmi", "example.org:5000/team/app:v1"]).says("Deleted: sha256:");
            hako.call(&["images", "-q"]).prints("");
            hako.call(&["rmi", "busybox:test"]).exits(1).complains("No such image");
        },
    ),
    Case::new(
        "rmi-in-use",
        "docker rmi(1)",
        "an image that a container uses is kept, unless forced",
        || {
            let hako = Hako::with_busybox();
            hako.call(&["run", "--name", "box", "busybox:test", "true"]).ok();
            hako.call(&["rmi", "busybox:test"])
                .exits(1)
                .complains("container")
                .complains("is using");
            hako.call(&["rmi", "-f", "busybox:test"]).ok();
            // The container still has its files.
            hako.call(&["rm", "box"]).ok();
        },
    ),
    Case::new(
        "rmi-frees-the-space",
        "docker rmi(1)",
        "after rmi the layers and blobs are gone",
        || {
            let hako = Hako::with_busybox();
            hako.call(&["run", "--rm", "busybox:test", "true"]).ok();
            let size = || {
                let output = command::run(Command::new("du").args(["-sk"]).arg(hako.root()));
                output
                    .ok()
                    .split('\t')
                    .next()
                    .and_then(|size| size.parse::<u64>().ok())
                    .expect("a number")
            };
            let before = size();
            hako.call(&["rmi", "busybox:test"]).ok();
            assert!(size() + 1500 < before, "{before} KB before, {} KB after", size());
        },
    ),
    Case::new(
        "image-verify",
        "issue: store and snapshots",
        "a changed byte of what is kept of an image is found",
        || {
            let hako = Hako::with_busybox();
            hako.call(&["image", "verify"]).says(": OK");
            hako.call(&["image", "verify", "busybox:test"]).prints("busybox:test: OK");
            let find = |sub: &str, size: &str| {
                let found = command::run(
                    Command::new("find")
                        .arg(hako.root().join(sub))
                        .args(["-type", "f", "-size", size, "-print"]),
                );
                found.ok().lines().map(std::path::PathBuf::from).collect::<Vec<_>>()
            };
            let mut files = find("content/blobs", "+0");
            // Where layers are not unpacked, what is kept of them is looked at as well.
            if hako.root().join("snapshots/erofs").exists() {
                let kept = find("snapshots/erofs", "+0").into_iter();
                files.extend(kept.filter(|path| path.ends_with("tar") || path.ends_with("index")));
            }
            for path in files {
                let whole = fs::read(&path).expect("it is there");
                let mut changed = whole.clone();
                changed[whole.len() / 2] ^= 1;
                let mode = fs::metadata(&path).expect("it is there").permissions();
                fs::remove_file(&path).expect("our own");
                fs::write(&path, changed).expect("our own");
                // The manifest and the configuration are needed to know what to look at.
                let found = hako.call(&["image", "verify", "busybox:test"]);
                assert_eq!(found.code, 1, "{}: {found}", path.display());
                fs::write(&path, whole).expect("our own");
                fs::set_permissions(&path, mode).expect("our own");
            }
            hako.call(&["image", "verify", "busybox:test"]).prints("busybox:test: OK");
            hako.call(&["image", "verify", "nothing"]).fails();
        },
    ),
    Case::new(
        "both-snapshotters-in-one-store",
        "issue: store and snapshots",
        "a container stays with what it was made with; what is new is as asked for",
        || {
            let hako = Hako::with_busybox();
            let load = image::busybox_archive();
            for snapshotter in ["overlay", "erofs"] {
                let flag = ["--snapshotter", snapshotter];
                let words = [&flag[..], &["run", "-d", "--name", snapshotter, "busybox:test"]];
                let words = [&words.concat()[..], &["sh", "-c", "echo $0 > /made; sleep 1000"]];
                let started = hako.call(&words.concat());
                if snapshotter == "erofs" && started.stderr.contains("EROFS of") {
                    hako_tests::skip!("the kernel mounts no EROFS from files");
                }
                started.ok();
                hako.call(&[&flag[..], &["info", "-f", "{{.Driver}}"]].concat())
                    .prints(snapshotter);
            }
            let kind = |name: &str| {
                let mounts = hako.call(&["exec", name, "sh", "-c", "cat /made; stat -f -c %T /"]);
                mounts.ok().to_owned()
            };
            assert_eq!(kind("overlay"), kind("erofs"));
            hako.call(&["--snapshotter", "zfs", "images"]).fails().complains("zfs");
            // Stopped and started by a command that asks for the other one.
            for (name, other) in [("overlay", "erofs"), ("erofs", "overlay")] {
                hako.call(&["stop", "-t", "0", name]).ok();
                hako.call(&["--snapshotter", other, "start", name]).ok();
                hako.call(&["exec", name, "cat", "/made"]).ok();
                hako.call(&["rm", "-f", name]).ok();
            }
            hako.call(&["rmi", "busybox:test"]).ok();
            for sub in ["snapshots/layers", "snapshots/erofs/layers", "snapshots/erofs/tars"] {
                let left = fs::read_dir(hako.root().join(sub)).expect("it is there").count();
                assert_eq!(left, 0, "{sub}");
            }
            hako.call(&["load", "-q", "-i", &load.to_string_lossy()]).ok();
        },
    ),
    Case::new("history", "docker history(1)", "history shows the steps", || {
        Hako::with_busybox().call(&["history", "busybox:test"]).says("IMAGE").says("hako-tests");
    }),
    Case::new(
        "image-inspect",
        "docker inspect(1)",
        "inspect of an image has Docker's fields",
        || {
            let hako = Hako::with_busybox();
            let value = hako.inspect("busybox:test");
            assert_eq!(value["Id"], busybox().id());
            assert_eq!(value["RepoTags"][0], "busybox:test");
            assert_eq!(value["Os"], "linux");
            assert_eq!(value["Architecture"], image::architecture());
            assert_eq!(value["Config"]["Cmd"][0], "sh");
            assert_eq!(value["RootFS"]["Type"], "layers");
        },
    ),
    Case::new("save-and-load", "docker save(1)", "what save writes, load reads: same ID", || {
        let hako = Hako::with_busybox();
        let file = hako.place().join("saved.tar");
        hako.call(&["save", "-o", &file.to_string_lossy(), "busybox:test"]).ok();
        let other = Hako::new();
        other.call(&["load", "-i", &file.to_string_lossy()]).says("Loaded image: busybox:test");
        other.call(&["images", "-q", "--no-trunc"]).prints(&busybox().id());
    }),
    Case::new(
        "save-is-reproducible",
        "docker save(1)",
        "the same image is saved as the same bytes",
        || {
            let hako = Hako::with_busybox();
            let save = |name: &str| {
                let file = hako.place().join(name);
                hako.call(&["save", "-o", &file.to_string_lossy(), "busybox:test"]).ok();
                fs::read(file).expect("it was written")
            };
            assert!(save("a.tar") == save("b.tar"));
        },
    ),
    Case::new(
        "save-for-skopeo",
        "docker save(1)",
        "skopeo reads it as docker-archive and as oci-archive",
        || {
            let skopeo = binary::tool("skopeo");
            let hako = Hako::with_busybox();
            let file = hako.place().join("saved.tar");
            hako.call(&["save", "-o", &file.to_string_lossy(), "busybox:test"]).ok();
            for transport in ["docker-archive", "oci-archive"] {
                let mut command = Command::new(&skopeo);
                command.args(["inspect", "--config", &format!("{transport}:{}", file.display())]);
                command::run(&mut command).says(image::architecture());
                let mut command = Command::new(&skopeo);
                let target = hako.place().join(transport);
                command.args([
                    "--insecure-policy",
                    "copy",
                    &format!("{transport}:{}", file.display()),
                ]);
                command
                    .arg(format!("dir:{}", target.display()))
                    .env("TMPDIR", hako.place().directory("skopeo"));
                command::run(&mut command).ok();
            }
        },
    ),
    Case::new("save-for-podman", "docker save(1)", "podman loads it", || {
        let podman = binary::tool("podman");
        let hako = Hako::with_busybox();
        let file = hako.place().join("saved.tar");
        hako.call(&["save", "-o", &file.to_string_lossy(), "busybox:test"]).ok();
        let mut command = Command::new(podman);
        command
            .arg("--root")
            .arg(hako.place().directory("podman"))
            .arg("--runroot")
            .arg(hako.place().directory("podrun"));
        command
            .args(["--storage-driver", "vfs", "--events-backend", "file", "load", "-i"])
            .arg(&file);
        command.env("TMPDIR", hako.place().directory("podtmp"));
        command::run(&mut command).says("busybox:test");
    }),
    Case::new("load-from-skopeo", LOAD, "what skopeo writes is loaded", || {
        let skopeo = binary::tool("skopeo");
        let place = Place::new("skopeo");
        let source = place.directory("layout");
        unpack(&busybox().oci_layout(), &source);
        for transport in ["docker-archive", "oci-archive"] {
            let file = place.join(format!("{transport}.tar"));
            let mut command = Command::new(&skopeo);
            command.args([
                "--insecure-policy",
                "copy",
                &format!("oci:{}:busybox:test", source.display()),
            ]);
            command
                .arg(format!("{transport}:{}:busybox:test", file.display()))
                .env("TMPDIR", place.directory("tmp"));
            command::run(&mut command).ok();
            let hako = Hako::new();
            hako.call(&["load", "-i", &file.to_string_lossy()]).says("Loaded image");
            hako.call(&["images", "-q"]).says(&busybox().id()[7..19]);
        }
    }),
    Case::new("save-stdout", "docker save(1)", "save to a pipe", || {
        let hako = Hako::with_busybox();
        let mut save = hako.command(&["save", "busybox:test"]);
        let mut saving = save.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
        let pipe = saving.stdout.take().expect("it is piped");
        let other = Hako::new();
        let status =
            other.command(&["load", "-q"]).stdin(pipe).stdout(std::process::Stdio::null()).status();
        assert!(status.expect("it starts").success() && saving.wait().expect("wait").success());
        other.call(&["run", "--rm", "busybox:test", "true"]).ok();
    }),
];
