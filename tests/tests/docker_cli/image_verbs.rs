//! Images made of tars and taken apart again: import, export, untag, prune, filters, platforms.

use std::process::Command;

use hako_tests::{
    Case,
    archive::{Entry, gzip, tar},
    binary, command,
    image::{Image, pack},
    install::Hako,
};

const IMPORT: &str = "docker import(1)";
const PRUNE: &str = "docker image prune(1)";
const SAVE: &str = "podman save(1)";
const IMAGES: &str = "docker images(1)";

/// An installation with the layers of busybox as plain tars.
fn with_rootfs() -> (Hako, String) {
    let hako = Hako::new();
    let path = hako.place().write("rootfs.tar", &Image::busybox("x:1").layers[0]);
    (hako, path.to_string_lossy().into_owned())
}

/// Loads an image with this name and configuration.
fn load(hako: &Hako, name: &str, change: impl FnOnce(&mut Image)) {
    let mut image = Image::busybox(name);
    change(&mut image);
    let path = hako.place().write("image.tar", pack(&image.docker_archive()));
    hako.call(&["load", "-q", "-i", &path.to_string_lossy()]).ok();
}

pub(crate) const CASES: &[Case] = &[
    Case::new("import", IMPORT, "a tar becomes an image, with what --change says", || {
        let (hako, tar) = with_rootfs();
        let imported = hako.call(&[
            "import",
            "-c",
            "CMD [\"cat\", \"/etc/os-release\"]",
            "--change",
            "ENV GREETING=\"good day\"",
            "-m",
            "by hand",
            &tar,
            "made:1",
        ]);
        let id = imported.ok().trim().to_owned();
        assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
        hako.call(&["image", "inspect", "-f", "{{.Id}}", "made:1"]).prints(&id);
        hako.call(&["run", "--rm", "made:1"]).says("hako-test");
        hako.call(&["run", "--rm", "made:1", "sh", "-c", "echo $GREETING"]).prints("good day");
        hako.call(&["history", "--format", "{{.Comment}}", "made:1"]).prints("by hand");
    }),
    Case::new("import-stdin", IMPORT, "from standard input, compressed, without a name", || {
        let hako = Hako::new();
        let bytes = gzip(&Image::busybox("x:1").layers[0]);
        let id = hako.call_with(&["import", "-"], &bytes).ok().trim().to_owned();
        hako.call(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).prints("<none>:<none>");
        hako.call(&["history", "--format", "{{.Comment}}", &id]).prints("Imported from -");
        hako.call(&["run", "--rm", &id, "true"]).ok();
    }),
    Case::new("import-platform", IMPORT, "--platform is what the image says", || {
        let (hako, tar) = with_rootfs();
        hako.call(&["import", "--platform", "linux/arm64/v8", &tar, "a:1"]).ok();
        hako.call(&["image", "inspect", "-f", "{{.Os}}/{{.Architecture}}/{{.Variant}}", "a:1"])
            .prints("linux/arm64/v8");
        hako.call(&["import", "--arch", "riscv64", &tar, "b:1"]).ok();
        hako.call(&["image", "inspect", "-f", "{{.Architecture}}", "b:1"]).prints("riscv64");
    }),
    Case::new("import-refuses", IMPORT, "no file, no tar, no change, no name", || {
        let (hako, tar) = with_rootfs();
        hako.call(&["import", "/nonexistent"])
            .exits(1)
            .complains("open /nonexistent: No such file or directory");
        hako.call(&["import", "-c", "RUN true", &tar])
            .exits(1)
            .complains("RUN is not a valid change command");
        hako.call(&["import", &tar, "UPPER"]).exits(1).complains("must be lowercase");
        hako.call_with(&["import", "-"], b"this is no tar of any kind").exits(1).complains("layer");
        hako.call(&["images", "-q"]).prints("");
    }),
    Case::new("import-url", IMPORT, "a file of a server", || {
        let hako = Hako::new();
        let bytes = Image::busybox("x:1").layers[0].clone();
        let server = hako_tests::registry::Registry::start(move |request| match request.path() {
            "/rootfs.tar" => hako_tests::registry::Reply::new(200, bytes.clone()),
            "/moved" => hako_tests::registry::Reply::redirect("/rootfs.tar"),
            _ => hako_tests::registry::Reply::new(404, "not here"),
        });
        let at = |path: &str| format!("http://{}/{path}", server.host());
        hako.call(&["import", &at("moved"), "made:1"]).ok();
        hako.call(&["run", "--rm", "made:1", "true"]).ok();
        hako.call(&["import", &at("other")]).exits(1).complains("404");
    }),
    Case::new("export", "docker export(1)", "image and own files in one tar, as Docker's", || {
        let hako = Hako::with_busybox();
        hako.call(&[
            "run",
            "--name",
            "box",
            "busybox:test",
            "sh",
            "-c",
            "echo own >/own; ln /own /other; rm /etc/os-release; chmod 4755 /own",
        ])
        .ok();
        let file = hako.place().join("c.tar").to_string_lossy().into_owned();
        hako.call(&["export", "-o", &file, "box"]).ok();
        let mut list = Command::new(binary::tool("tar"));
        let listed = command::run(list.args(["-tvf", &file]));
        listed.says("own").says("link to");
        assert!(!listed.stdout.contains("etc/os-release"), "{}", listed.stdout);
        // What came out goes in again.
        hako.call(&["import", &file, "again:1"]).ok();
        hako.call(&["run", "--rm", "again:1", "cat", "/other"]).prints("own");
        hako.call(&["run", "--rm", "again:1", "stat", "-c", "%a %h", "/own"]).prints("4755 2");
        hako.call(&["export", "nosuch"]).exits(1).complains("No such container: nosuch");
    }),
    Case::new("export-running", "docker export(1)", "a container that runs", || {
        let hako = Hako::with_busybox();
        hako.call(&[
            "run",
            "-d",
            "--name",
            "box",
            "busybox:test",
            "sh",
            "-c",
            "echo x >/x; sleep 60",
        ])
        .ok();
        command::wait_until("the file is there", || {
            hako.call(&["exec", "box", "cat", "/x"]).stdout.trim() == "x"
        });
        let file = hako.place().join("c.tar").to_string_lossy().into_owned();
        hako.call(&["export", "-o", &file, "box"]).ok();
        let mut list = Command::new(binary::tool("tar"));
        command::run(list.args(["-xOf", &file, "x"])).prints("x");
        hako.call(&["rm", "-f", "box"]).ok();
    }),
    Case::new("untag", "podman untag(1)", "names go, the image stays", || {
        let hako = Hako::with_busybox();
        hako.call(&["tag", "busybox:test", "other:1"]).ok();
        let id = hako.call(&["images", "-q", "--no-trunc"]).ok().trim().to_owned();
        hako.call(&["untag", "busybox:test", "other:1"]).ok();
        hako.call(&["images", "--format", "{{.Repository}}"]).prints("busybox");
        hako.call(&["untag", &id, "nosuch:1"]).exits(1).complains("No such image: nosuch:1");
        hako.call(&["untag", &id]).ok();
        hako.call(&["images", "--format", "{{.Repository}}"]).prints("<none>");
        hako.call(&["run", "--rm", &id, "true"]).ok();
    }),
    Case::new("image-prune", PRUNE, "dangling ones; with -a all that nobody uses", || {
        let hako = Hako::with_busybox();
        load(&hako, "used:1", |image| {
            image.config = serde_json::json!({"Labels": {"k": "used"}, "Cmd": ["sh"]});
        });
        load(&hako, "free:1", |image| image.config = serde_json::json!({"Labels": {"k": "free"}}));
        load(&hako, "gone:1", |image| image.config = serde_json::json!({"Labels": {"k": "gone"}}));
        hako.call(&["untag", "gone:1"]).ok();
        hako.call(&["create", "--name", "box", "used:1"]).ok();
        hako.call_with(&["image", "prune"], b"n\n")
            .says("WARNING! This will remove all dangling images.")
            .says("[y/N]");
        assert_eq!(hako.call(&["images", "-q"]).ok().lines().count(), 4);
        let pruned = hako.call(&["image", "prune", "-f"]);
        pruned.says("Deleted Images:").says("deleted: sha256:").says("Total reclaimed space: ");
        assert!(!pruned.stdout.contains("untagged:"), "{}", pruned.stdout);
        hako.call(&["image", "prune", "-a", "-f", "--filter", "label!=k"])
            .says("untagged: busybox:test");
        hako.call(&["image", "prune", "-a", "-f", "--filter", "until=1970-01-02"])
            .prints("Total reclaimed space: 0B");
        hako.call(&["image", "prune", "-a", "-f"]).says("untagged: free:1");
        hako.call(&["images", "--format", "{{.Repository}}"]).prints("used");
        hako.call(&["image", "prune", "--filter", "since=x"])
            .exits(125)
            .complains("invalid filter 'since'");
    }),
    Case::new("images-filters", IMAGES, "before, since, until, label, dangling, reference", || {
        let hako = Hako::new();
        for (name, created) in [("old:1", "2001"), ("mid:1", "2005"), ("new:1", "2009")] {
            load(&hako, name, |image| {
                image.created = format!("{created}-01-01T00:00:00Z");
                image.config = serde_json::json!({"Labels": {"year": created}});
            });
        }
        let list = |filter: &str| {
            let format = ["images", "--format", "{{.Repository}}", "--filter", filter];
            hako.call(&format).ok().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(list("before=mid:1"), "old");
        assert_eq!(list("since=mid:1"), "new");
        assert_eq!(list("until=2006-01-01T00:00:00Z"), "mid old");
        assert_eq!(list("label=year=2001"), "old");
        assert_eq!(list("label!=year=2001"), "new mid");
        assert_eq!(list("reference=*d:1"), "mid old");
        assert_eq!(list("dangling=true"), "");
        hako.call(&["images", "--filter", "before=nosuch"])
            .exits(1)
            .complains("No such image: nosuch:latest");
    }),
    Case::new("save-formats", SAVE, "each is what its name says, and loads", || {
        let hako = Hako::with_busybox();
        let id = hako.call(&["images", "-q", "--no-trunc"]).ok().trim().to_owned();
        let at = |name: &str| hako.place().join(name).to_string_lossy().into_owned();
        for (format, has, has_not) in [
            ("oci-archive", "index.json", "manifest.json"),
            ("docker-archive", "manifest.json", "index.json"),
        ] {
            let file = at(format);
            hako.call(&["save", "--format", format, "-o", &file, "busybox:test"]).ok();
            let mut list = Command::new(binary::tool("tar"));
            let listed = command::run(list.args(["-tf", &file]));
            let lines: Vec<&str> = listed.stdout.lines().collect();
            assert!(lines.contains(&has) && !lines.contains(&has_not), "{format}: {lines:?}");
            let other = Hako::new();
            other.call(&["load", "-i", &file]).ok();
            other.call(&["images", "-q", "--no-trunc"]).prints(&id);
        }
        hako.call(&["save", "--format", "oci-dir", "-o", &at("layout"), "busybox:test"]).ok();
        let other = Hako::new();
        other.call(&["load", "-i", &at("layout")]).ok();
        other.call(&["images", "-q", "--no-trunc"]).prints(&id);
        hako.call(&["save", "--format", "docker-dir", "-o", &at("dir"), "busybox:test"]).ok();
        let mut skopeo = Command::new(binary::tool("skopeo"));
        let from = format!("dir:{}", at("dir"));
        command::run(skopeo.args(["inspect", "--config", &from])).says("amd64");
        other.call(&["copy", "-q", &from, "again:1"]).ok();
        other.call(&["image", "inspect", "-f", "{{.Id}}", "again:1"]).prints(&id);
        hako.call(&["save", "--format", "zip", "busybox:test"])
            .exits(125)
            .complains("unknown format");
        hako.call(&["save", "--format", "oci-dir", "busybox:test"]).exits(1).complains("--output");
    }),
    Case::new("platforms", IMAGES, "--platform of load, save, inspect and history", || {
        let hako = Hako::new();
        load(&hako, "a:1", |_| ());
        let there = format!("linux/{}", hako_tests::image::architecture());
        hako.call(&["image", "inspect", "--platform", &there, "-f", "{{.Os}}", "a:1"])
            .prints("linux");
        hako.call(&["history", "-q", "--platform", &there, "a:1"]).ok();
        let other = "image with reference a:1 was found but does not provide the specified \
                     platform (linux/s390x)";
        for words in [
            &["image", "inspect", "--platform", "linux/s390x", "a:1"][..],
            &["history", "--platform", "linux/s390x", "a:1"],
        ] {
            hako.call(words).exits(1).complains(other);
        }
        hako.call(&["save", "--platform", "linux/s390x", "-o", "/dev/null", "a:1"])
            .exits(1)
            .complains("does not provide the specified platform (linux/s390x)");
        let archive = hako.place().join("image.tar").to_string_lossy().into_owned();
        hako.call(&["load", "--platform", "linux/s390x", "-i", &archive])
            .exits(1)
            .complains("no image for platform linux/s390x");
        hako.call(&["load", "--platform", "x", "-i", &archive])
            .exits(125)
            .complains("invalid platform");
    }),
    Case::new("import-hostile", "issue: failing well", "a tar that leads out is refused", || {
        let hako = Hako::new();
        let evil = tar(&[Entry::file("../../evil", 0o644, b"x".to_vec())]);
        let called = hako.call_with(&["import", "-", "e:1"], &evil);
        // As layers are: what leads out ends at the root.
        if called.code == 0 {
            hako.call(&["run", "--rm", "e:1", "/nothing"]).exits(127);
        }
        assert!(!hako.place().join("evil").exists());
    }),
];
