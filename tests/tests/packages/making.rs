//! What images of packages are made of.

use std::{fs, process::Command};

use hako_tests::{
    Case, binary,
    command::{self, Output},
    debian::{Deb, Key, Mirror, Suite},
    install::Hako,
    skip,
};
use serde_json::Value;

use crate::debian::{SUITE, make, mirror, source};

const ISSUE: &str = "issue: base images from packages";

fn id(output: &Output) -> String {
    let id = output.ok().trim().to_owned();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{output}");
    id
}

fn inspect(hako: &Hako, image: &str) -> Value {
    let output = hako.call(&["image", "inspect", image]);
    let all: Value = serde_json::from_str(output.ok()).expect("JSON");
    all[0].clone()
}

fn layers(hako: &Hako, image: &str) -> Vec<String> {
    let layers = inspect(hako, image)["RootFS"]["Layers"].clone();
    serde_json::from_value(layers).expect("a list")
}

pub(crate) const CASES: &[Case] = &[
    Case::new("same-lock-same-digest", ISSUE, "one lock file gives one digest anywhere", || {
        let first = Hako::new();
        let lock = first.place().join("web.lock");
        let lock = lock.to_string_lossy();
        let words = ["--include", "openssl,zlib1g", "--lock", &lock, "-t", "a", "-q"];
        let one = id(&make(&first, &words));
        let text = fs::read_to_string(&*lock).expect("it was written");
        assert!(text.contains("\"name\":\"openssl\"") && text.contains("sha256:"), "{text}");

        // Elsewhere: another store, another user's habits, another time zone, another order.
        let second = Hako::new();
        let mut words = source(&second, mirror());
        let more = ["--include", "zlib1g", "--include", "openssl", "--locked", "--lock", &lock];
        words.extend(more.map(str::to_owned));
        let mut all = vec!["image", "from-packages", "-q", "-t", "b"];
        all.extend(words.iter().map(String::as_str));
        let hako = second.command(&all);
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(hako.get_program());
        shell.args(hako.get_args()).env("TZ", "Asia/Tokyo").env("LC_ALL", "C");
        for (name, value) in hako.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        assert_eq!(id(&command::run(&mut shell)), one);
        let digest = |hako: &Hako, name: &str| inspect(hako, name)["RootFS"].clone();
        assert_eq!(digest(&first, "a"), digest(&second, "b"));

        // A lock of something else is not taken for it.
        let words = ["--include", "openssl,python3", "--lock", &lock];
        make(&first, &words).exits(1).complains("it is for test on");
        let words = ["--include", "openssl", "--lock", &lock];
        make(&first, &words).exits(1).complains("remove it, or name another");
    }),
    Case::new(
        "layers-are-shared",
        ISSUE,
        "images have the same bytes of the same packages",
        || {
            let hako = Hako::new();
            for package in ["python3", "openssl"] {
                make(&hako, &["--include", package, "-t", package, "-q"]).ok();
            }
            make(&hako, &["--variant", "static", "-t", "static", "-q"]).ok();
            let (python, openssl) = (layers(&hako, "python3"), layers(&hako, "openssl"));
            assert_eq!(python[..2], openssl[..2], "base and C library");
            assert_eq!(layers(&hako, "static"), openssl[..1]);
            hako.call(&["history", "--no-trunc", "python3"]).says("libc6 2.").says("python3.11");
        },
    ),
    Case::new("static-has-no-programs", ISSUE, "static: authorities, time zones and users", || {
        let hako = Hako::new();
        make(&hako, &["--variant", "static", "-t", "static", "-q"]).ok();
        let tar = hako.place().join("static.tar");
        hako.call(&["create", "--name", "cc", "static", "/none"]).ok();
        hako.call(&["export", "-o", &tar.to_string_lossy(), "cc"]).ok();
        hako.call(&["rm", "cc"]).ok();
        let output = command::run(Command::new("tar").args(["-tvf"]).arg(&tar));
        for there in [
            "etc/ssl/certs/ca-certificates.crt",
            "usr/share/zoneinfo/Europe/Berlin",
            "etc/passwd",
            "etc/nsswitch.conf",
            "usr/lib/os-release",
            "home/nonroot/",
            "var/run -> /run",
            "etc/localtime -> /usr/share/zoneinfo/Etc/UTC",
            "drwxrwxrwt 0/0",
        ] {
            assert!(output.stdout.contains(there), "{there} in {output}");
        }
        for gone in ["etc/machine-id", "var/lib/dpkg/status\n", "bin/sh"] {
            assert!(!output.stdout.contains(gone), "{gone} in {output}");
        }
    }),
    Case::new("image-configuration", ISSUE, "flags become the image's configuration", || {
        let hako = Hako::new();
        make(
            &hako,
            &[
                "--variant",
                "static",
                "-t",
                "one:1",
                "-t",
                "two",
                "-q",
                "--entrypoint",
                "/a -b",
                "--cmd",
                "[\"c d\"]",
                "-e",
                "A=1",
                "-e",
                "PATH=/x",
                "-l",
                "k=v",
                "-u",
                "nonroot",
                "-w",
                "/w",
            ],
        )
        .ok();
        let config = inspect(&hako, "two")["Config"].clone();
        assert_eq!(config["Entrypoint"], serde_json::json!(["/a", "-b"]));
        assert_eq!(config["Cmd"], serde_json::json!(["c d"]));
        let env = config["Env"].to_string();
        assert!(
            env.contains("\"A=1\"") && env.contains("\"PATH=/x\"") && !env.contains("sbin"),
            "{env}"
        );
        assert_eq!((&config["User"], &config["WorkingDir"]), (&"nonroot".into(), &"/w".into()));
        assert_eq!(config["Labels"]["k"], "v");
        assert_eq!(config["Labels"]["org.opencontainers.image.ref.name"], "deb+static:test");
        hako.call(&["images", "-q", "one"]).ok();
    }),
    Case::new("other-platform", ISSUE, "packages of another architecture become its image", || {
        let hako = Hako::new();
        let names = ["base-files", "base-passwd", "ca-certificates", "netbase", "tzdata"];
        let suite =
            names.iter().fold(Suite::new(SUITE), |suite, name| suite.with(&Deb::new(name, "1")));
        let foreign = Deb::new("aa", "1").field("Architecture", "arm64");
        let mirror = Mirror::start(suite.with(&foreign).files(&Key::new(1)));
        let words = ["--include", "aa", "--platform", "linux/arm64", "-t", "arm", "-q"];
        crate::debian::make_of(&hako, &mirror, &words).ok();
        assert_eq!(inspect(&hako, "arm")["Architecture"], "arm64");
        let words = ["--platform", "linux/arm64", "--variant", "minbase"];
        crate::debian::make_of(&hako, &mirror, &words)
            .exits(1)
            .complains("use --variant distroless");
    }),
    Case::new("deb-names", ISSUE, "deb:SUITE/PACKAGE is an image for run, inspect and rmi", || {
        let hako = Hako::new();
        // What the machine's apt is configured for, in this mount namespace: our archive.
        let apt = hako.place().join("apt");
        fs::create_dir_all(apt.join("sources.list.d")).expect("mkdir");
        let words = source(&hako, mirror());
        let text = format!("deb [signed-by={}] {} {SUITE} main\n", words[5], mirror().uri());
        fs::write(apt.join("sources.list"), text).expect("write");
        let mount = |words: &[&str]| {
            let output = command::run(Command::new(words[0]).args(&words[1..]));
            output.ok();
        };
        mount(&["mount", "--bind", &apt.to_string_lossy(), "/etc/apt"]);
        let name = format!("deb:{SUITE}/openssl");
        let run = || hako.call(&["run", "--rm", "-u", "nonroot", &name, "openssl", "version"]);
        let (first, again) = (run(), run());
        // Another one, so that the build has to make it.
        let text = format!("FROM deb:{SUITE}/openssl,zlib1g\nRUN [\"openssl\", \"version\"]\n");
        let context = hako.place().write("context/Dockerfile", text);
        let context = context.parent().expect("it has one").to_string_lossy().into_owned();
        let built = hako.call(&["build", "-t", "upon-packages", &context]);
        mount(&["umount", "/etc/apt"]);
        built.ok();
        built.complains(" OpenSSL ");
        first.says("OpenSSL").complains("Fetching");
        again.says("OpenSSL");
        assert!(!again.stderr.contains("Fetching"), "{again}");
        hako.call(&["images"]).says("localhost/deb/test").says("openssl");
        assert!(inspect(&hako, &name)["Id"].is_string());
        hako.call(&["rmi", &name]).says("Untagged: localhost/deb/test:openssl");
    })
    .alone(),
    Case::new("scanners-see-packages", ISSUE, "syft finds what is there, with its files", || {
        let Some(syft) = command::find("syft") else { skip!("syft is not installed") };
        let hako = Hako::new();
        make(&hako, &["--include", "openssl", "-t", "it", "-q"]).ok();
        let tar = hako.place().join("it.tar");
        hako.call(&["save", "-o", &tar.to_string_lossy(), "it"]).ok();
        let mut command = Command::new(syft);
        command.arg(format!("docker-archive:{}", tar.display())).args(["-q", "-o", "json"]);
        command.env("SYFT_CHECK_FOR_APP_UPDATE", "false").env("HOME", hako.place().join("."));
        let output = command::run(&mut command);
        let found: Value = serde_json::from_str(output.ok()).expect("JSON");
        let packages = found["artifacts"].as_array().cloned().unwrap_or_default();
        let openssl = packages.iter().find(|p| p["name"] == "openssl" && p["type"] == "deb");
        let files = openssl.and_then(|p| p["metadata"]["files"].as_array()).map_or(0, Vec::len);
        assert!(files > 5 && packages.len() > 6, "{files} files, {} packages", packages.len());
    }),
    Case::new("minbase", ISSUE, "a small system is whole, and the same each time", || {
        let hako = Hako::new();
        binary::tool("dpkg");
        let one = id(&make(&hako, &["-t", "one", "-q"]));
        hako.call(&["tag", "one", "kept"]).ok();
        let run = |words: &[&str]| hako.call(&[&["run", "--rm", "one"], words].concat());
        run(&["sh", "-c", "dpkg --audit && dpkg -V && apt-get --version >/dev/null && echo ok"])
            .prints("ok\n");
        let script = "id -un 33; ls /etc/machine-id /etc/hostname- /usr/sbin/policy-rc.d 2>/dev/null; \
                      find /var/log -type f -size +0; find / -xdev -name __pycache__; awk 'BEGIN{print 1}'; \
                      grep -c '^root:' /etc/shadow; readlink /etc/localtime; cat /etc/apt/sources.list";
        let source = format!("deb {} {SUITE} main", mirror().uri());
        let want = format!("www-data\n1\n1\n/usr/share/zoneinfo/Etc/UTC\n{source}\n");
        run(&["sh", "-c", script]).prints(&want);
        let other = Hako::new();
        assert_eq!(id(&make(&other, &["-t", "one", "-q"])), one);
        hako.call(&["ps", "-aq"]).prints("");
        hako.call(&["image", "prune", "-f"]).says("Total reclaimed space: 0B");
    }),
];
