//! `hako build`: what Dockerfiles become, what is done again, and what is left behind.

#![forbid(unsafe_code)]

use std::{fs, os::unix::fs::PermissionsExt as _};

use hako_tests::{
    Case, command,
    install::{BUSYBOX, Hako},
    skip,
};
use serde_json::Value;

const DOCKERFILE: &str = "Dockerfile reference";
const BUILD: &str = "docker buildx build(1)";

/// An installation with a context: files by their names.
fn with(files: &[(&str, &str)]) -> Hako {
    let hako = Hako::with_busybox();
    for (name, content) in files {
        hako.place().write(&format!("context/{name}"), content);
    }
    hako
}

fn build(hako: &Hako, options: &[&str]) -> command::Output {
    let context = hako.place().join("context").to_string_lossy().into_owned();
    let words: Vec<&str> =
        ["build", "-t", "built"].iter().chain(options).copied().chain([&*context]).collect();
    hako.call(&words)
}

/// The names in the last layer of the image, as `tar -t` lists them.
fn last_layer(hako: &Hako) -> Vec<String> {
    let archive = hako.place().join("saved.tar").to_string_lossy().into_owned();
    hako.call(&["save", "-o", &archive, "built"]).ok();
    let saved = hako.place().directory("saved");
    let saved_dir = saved.to_string_lossy().into_owned();
    let unpack = ["-x", "-f", &archive, "-C", &saved_dir];
    command::run(std::process::Command::new("tar").args(unpack)).ok();
    let manifest = fs::read(saved.join("manifest.json")).expect("an archive has a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let layers = manifest[0]["Layers"].as_array().expect("a list of layers");
    let last = layers.last().and_then(Value::as_str).expect("a layer").to_owned();
    let path = saved.join(last).to_string_lossy().into_owned();
    let listed = command::run(std::process::Command::new("tar").args(["-t", "-f", &path]));
    listed.ok().lines().map(str::to_owned).collect()
}

/// How often a step's name is followed by this word in the output.
fn ended(output: &command::Output, step: &str, word: &str) -> bool {
    let number = output.stderr.lines().find_map(|line| {
        let (number, name) = line.strip_prefix('#')?.split_once(' ')?;
        name.contains(step).then(|| number.to_owned())
    });
    let number = number.unwrap_or_else(|| panic!("no step {step:?} in:\n{}", output.stderr));
    output.stderr.lines().any(|line| line.starts_with(&format!("#{number} {word}")))
}

fn from(rest: &str) -> String {
    format!("FROM {BUSYBOX}\n{rest}\n")
}

fn main() -> std::process::ExitCode {
    hako_tests::run("builder", &[CASES])
}

const CASES: &[Case] = &[
    Case::new("build-and-run", DOCKERFILE, "each kind of instruction has its effect", || {
        let text = "ARG BASE=busybox:test\nFROM $BASE AS one\nENV GREETING=\"hello world\"\n\
            ARG WHO=you\nWORKDIR /app\nCOPY a.txt sub ./\nRUN echo \"$GREETING $WHO\" > greet\n\
            FROM one\nCOPY --from=one --chown=7:8 --chmod=600 /app/greet /data/\nUSER 7\nLABEL a=b\n\
            EXPOSE 80\nVOLUME /v\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"cat\"]\nCMD [\"/data/greet\"]\n";
        let hako = with(&[("Dockerfile", text), ("a.txt", "a"), ("sub/b.txt", "b")]);
        build(&hako, &[]).ok();
        hako.call(&["run", "--rm", "built"]).prints("hello world you\n");
        let seen = "stat -c '%u:%g %a' /data/greet; cat /app/a.txt /app/b.txt";
        let shell = ["run", "--rm", "--entrypoint", "sh", "--user", "0", "built", "-c", seen];
        hako.call(&shell).prints("7:8 600\nab");
        let config = &hako.inspect("built")["Config"];
        assert_eq!(config["Labels"]["a"], "b");
        assert_eq!(config["StopSignal"], "SIGINT");
        assert!(config["ExposedPorts"]["80/tcp"].is_object(), "{config}");
        assert!(config["Volumes"]["/v"].is_object(), "{config}");
        assert_eq!(config["WorkingDir"], "/app");
    }),
    Case::new("build-check", BUILD, "findings are shown in the source, and fail", || {
        let text = "FROM scratch AS base\nCOPY $foo /x\n# MODE how\nARG MODE=fast\n";
        let hako = with(&[("Dockerfile", text)]);
        let found = build(&hako, &["--check"]);
        assert_eq!(found.code, 1, "{}", found.stderr);
        let lines = "Usage of undefined variable '$foo'\nDockerfile:2\n--------------------\n   \
            1 |     FROM scratch AS base\n   2 | >>> COPY $foo /x\n     |          ^^^^\n";
        assert!(found.stdout.contains(lines), "{}", found.stdout);
        assert_eq!(build(&hako, &["--call=check,ignorestatus"]).code, 0);
        let json: Value =
            serde_json::from_str(&build(&hako, &["--call", "check,format=json"]).stdout)
                .expect("a report is JSON");
        assert_eq!(json["warnings"][0]["ruleName"], "UndefinedVar");
        let targets = build(&hako, &["--call=targets"]);
        targets.prints("TARGET          DESCRIPTION\nbase (default)  \n");
        assert!(build(&hako, &["--call=outline"]).ok().contains("MODE       fast   how"));
        hako.place().write("context/Dockerfile", "# check=skip=all\nFROM scratch as base\n");
        build(&hako, &["--check"]).prints("Check complete, no warnings found.\n");
        hako.place().write("context/Dockerfile", "FROM scratch\nRUNN x\n");
        let wrong = build(&hako, &["--check"]);
        wrong.complains("dockerfile parse error on line 2: unknown instruction: RUNN");
        wrong.complains(">>> RUNN x");
    }),
    Case::new("build-removed-file", "the lecture", "only a whiteout is in the layer", || {
        let hako = with(&[("Dockerfile", &from("RUN echo hoge > hoge.txt\nRUN rm hoge.txt"))]);
        build(&hako, &[]).ok();
        assert_eq!(last_layer(&hako), [".wh.hoge.txt"]);
    }),
    Case::new("build-no-stubs", DOCKERFILE, "mount points of RUN are in no layer", || {
        let run = "RUN --mount=type=cache,target=/some/deep/cache --mount=type=tmpfs,target=/t \
            echo x > /file";
        let hako = with(&[("Dockerfile", &from(run))]);
        build(&hako, &[]).ok();
        assert_eq!(last_layer(&hako), ["file"]);
    }),
    Case::new("build-layer-cache", "the lecture", "what a change does not reach is cached", || {
        let text = from(
            "WORKDIR /src\nCOPY go.mod ./\nRUN echo download && cat go.mod\nCOPY . .\n\
             RUN echo compile && cat main.go",
        );
        let files = [("Dockerfile", &*text), ("go.mod", "module a"), ("main.go", "package main")];
        let hako = with(&files);
        assert!(ended(&build(&hako, &[]), "RUN echo download", "DONE"));
        hako.place().write("context/main.go", "package other");
        let second = build(&hako, &["--why"]);
        assert!(ended(&second, "RUN echo download", "CACHED"), "{}", second.stderr);
        assert!(ended(&second, "RUN echo compile", "DONE"), "{}", second.stderr);
        second.complains("file main.go changed");
        hako.place().write("context/go.mod", "module b");
        let third = build(&hako, &[]);
        assert!(ended(&third, "RUN echo download", "DONE"), "{}", third.stderr);
    }),
    Case::new("build-content-cache", BUILD, "another way to the same files is no change", || {
        let text = format!(
            "FROM {BUSYBOX} AS one\nCOPY x /x\nRUN echo same > /out\n\
             FROM {BUSYBOX}\nCOPY --from=one /out /\nRUN echo end"
        );
        let hako = with(&[("Dockerfile", &text), ("x", "1")]);
        build(&hako, &[]).ok();
        hako.place().write("context/x", "2");
        let again = build(&hako, &[]);
        assert!(ended(&again, "RUN echo same", "DONE"), "{}", again.stderr);
        assert!(ended(&again, "RUN echo end", "CACHED"), "{}", again.stderr);
    }),
    Case::new("build-reproducible", BUILD, "two directories, two stores, one digest", || {
        let text = from("COPY . /app/\nRUN echo made > /made && mkdir -p /x/y && touch /x/y/z");
        let ids: Vec<String> = (0..2)
            .map(|_| {
                let hako = with(&[("Dockerfile", &text), ("b", "b"), ("a/c", "c")]);
                build(&hako, &["-q"]).ok().trim().to_owned()
            })
            .collect();
        assert_eq!(ids[0], ids[1]);
    }),
    Case::new("build-dockerignore", DOCKERFILE, "what is ignored is not there", || {
        let files = [
            ("Dockerfile", &*from("COPY . /c/")),
            (".dockerignore", "*.log\n!keep.log\nsecret/\nDockerfile\n.dockerignore\n"),
            ("a.log", "x"),
            ("keep.log", "x"),
            ("secret/key", "x"),
            ("d/b.log", "x"),
        ];
        let hako = with(&files);
        build(&hako, &[]).ok();
        let listed = hako.call(&["run", "--rm", "built", "find", "/c", "-type", "f"]);
        let mut found: Vec<&str> = listed.ok().lines().collect();
        found.sort_unstable();
        assert_eq!(found, ["/c/d/b.log", "/c/keep.log"]);
        // Not by a link either.
        hako.place().write("context/Dockerfile", from("COPY link /c/"));
        let link = hako.place().join("context/link");
        std::os::unix::fs::symlink("secret/key", link).expect("a link can be made");
        build(&hako, &[]).exits(1).complains("not found");
    }),
    Case::new(
        "build-outside-context",
        "CVE-2024-23651 and kin",
        "nothing outside is copied",
        || {
            let hako = with(&[("Dockerfile", &from("COPY ../outside /o"))]);
            hako.place().write("outside", "host");
            build(&hako, &[]).exits(1).complains("\"/outside\": not found");
            hako.place().write("context/Dockerfile", from("COPY link /o"));
            let (link, outside) = (hako.place().join("context/link"), hako.place().join("outside"));
            std::os::unix::fs::symlink(outside, link).expect("a link can be made");
            build(&hako, &[]).exits(1).complains("not found");
        },
    ),
    Case::new("build-secret", BUILD, "a secret is seen by its step, and is nowhere else", || {
        let secret = "RUN --mount=type=secret,id=key cat /run/secrets/key | tr a-z A-Z\n\
            RUN --mount=type=secret,id=key,env=KEY test -n \"$KEY\"";
        let hako = with(&[("Dockerfile", &from(secret))]);
        let file = hako.place().write("key", "hidden-value").to_string_lossy().into_owned();
        let option = format!("id=key,src={file}");
        build(&hako, &["--secret", &option]).complains("HIDDEN-VALUE");
        let archive = hako.place().join("all.tar").to_string_lossy().into_owned();
        hako.call(&["save", "-o", &archive, "built"]).ok();
        let found = fs::read(&archive).expect("it was written");
        assert!(!String::from_utf8_lossy(&found).contains("hidden-value"));
        // Another value is no other step.
        hako.place().write("key", "another-value");
        assert!(ended(&build(&hako, &["--secret", &option]), "cat /run", "CACHED"));
    }),
    Case::new("build-cache-mount", DOCKERFILE, "a cache outlives builds and images", || {
        let run = "RUN --mount=type=cache,target=/c,id=n echo x >> /c/f; wc -l < /c/f";
        let hako = with(&[("Dockerfile", &from(run))]);
        build(&hako, &[]).complains(" 1\n");
        build(&hako, &["--no-cache"]).complains(" 2\n");
        hako.call(&["run", "--rm", "built", "ls", "/c"]).fails();
    }),
    Case::new("build-bind-mount", DOCKERFILE, "files of the context without copying them", || {
        let run = "RUN --mount=type=bind,target=/ctx cat /ctx/a > /a\n\
            RUN --mount=type=bind,target=/ctx,rw echo y > /ctx/new && cat /ctx/new";
        let hako = with(&[("Dockerfile", &from(run)), ("a", "content")]);
        build(&hako, &[]).ok();
        hako.call(&["run", "--rm", "built", "cat", "/a"]).prints("content");
        assert!(!hako.place().join("context/new").exists());
    }),
    Case::new("build-heredocs", DOCKERFILE, "of RUN and COPY", || {
        let text = from(
            "ARG A=1\nRUN <<EOF\necho one > /one\ncd /tmp\npwd > /two\nEOF\n\
             COPY <<a <<\"b\" /files/\nis $A\na\nis $A\nb\n\
             RUN <<X\n#!/bin/cat\nline\nX",
        );
        let hako = with(&[("Dockerfile", &text)]);
        build(&hako, &[]).complains("line");
        let cat = ["run", "--rm", "built", "cat", "/one", "/two", "/files/a", "/files/b"];
        hako.call(&cat).prints("one\n/tmp\nis 1\nis $A\n");
    }),
    Case::new("build-add-archive", DOCKERFILE, "ADD unpacks, COPY does not", || {
        let hako = with(&[("Dockerfile", &from("ADD a.tar.gz /add/\nCOPY a.tar.gz /copy/"))]);
        let entries = [
            hako_tests::archive::Entry::directory("d/", 0o750),
            hako_tests::archive::Entry::file("d/f", 0o640, "inner").owned(3, 4),
        ];
        let packed = hako_tests::archive::gzip(&hako_tests::archive::tar(&entries));
        hako.place().write("context/a.tar.gz", packed);
        build(&hako, &[]).ok();
        let look = "cat /add/d/f; stat -c ' %a %u:%g' /add/d/f; ls /copy";
        hako.call(&["run", "--rm", "built", "sh", "-c", look]).prints("inner 640 3:4\na.tar.gz\n");
        let hostile = [hako_tests::archive::Entry::file("../../escaped", 0o644, "x")];
        hako.place().write("context/a.tar.gz", hako_tests::archive::tar(&hostile));
        build(&hako, &[]).exits(1).complains("leads out of the archive");
    }),
    Case::new(
        "build-link-cache",
        DOCKERFILE,
        "COPY --link upon another base is another step",
        || {
            let text = |word: &str| from(&format!("RUN echo {word} > /a\nCOPY --link f /f"));
            let hako = with(&[("Dockerfile", &text("one")), ("f", "f")]);
            build(&hako, &[]).ok();
            hako.place().write("context/Dockerfile", text("two"));
            build(&hako, &[]).ok();
            hako.call(&["run", "--rm", "built", "cat", "/a"]).prints("two\n");
        },
    ),
    Case::new("build-whiteout-names", "layers", "a file cannot be called as a removal is", || {
        let hako = with(&[("Dockerfile", &from("COPY .wh.etc /")), (".wh.etc", "")]);
        build(&hako, &[]).exits(1).complains("means a removed file");
        hako.place().write("context/Dockerfile", from("COPY <<f /.wh.etc\nx\nf"));
        build(&hako, &[]).exits(1).complains("means a removed file");
        hako.place().write("context/Dockerfile", from("COPY d /etc"));
        hako.place().write("context/d/.wh..wh..opq", "");
        build(&hako, &[]).exits(1).complains("means a removed file");
    }),
    Case::new("build-changing-context", BUILD, "what changes while it is used is not kept", || {
        for used in ["RUN --mount=type=bind,target=/src cat /src/f", "ADD f /f"] {
            let text = format!("FROM {BUSYBOX}\nRUN sleep 2\n{used}\n");
            let hako = with(&[("Dockerfile", &text), ("f", "v1")]);
            let context = hako.place().join("context").to_string_lossy().into_owned();
            let child = hako.spawn(&["build", &context]);
            let runtime = hako.run_root().join("runtime");
            let running =
                || fs::read_dir(&runtime).is_ok_and(|mut entries| entries.next().is_some());
            command::wait_until("the first step runs", running);
            hako.place().write("context/f", "v2");
            let output = command::finish(child, "hako build".into());
            output.exits(1).complains("changed while it was copied");
        }
    }),
    Case::new(
        "build-cache-twice",
        DOCKERFILE,
        "a step that mounts one cache twice goes on",
        || {
            let mount = "--mount=type=cache,id=z,sharing=locked,target=";
            let run = format!("RUN {mount}/a {mount}/b echo x > /a/f && cat /b/f");
            let hako = with(&[("Dockerfile", &from(&run))]);
            build(&hako, &[]).ok();
        },
    ),
    Case::new(
        "build-copy-options",
        DOCKERFILE,
        "--exclude of files, --parents with a pivot",
        || {
            let text = from("COPY --exclude=*.txt hom* /e/\nCOPY --parents ./a/./b/c/x /p/");
            let files = [("Dockerfile", &*text), ("hom.txt", ""), ("home.md", ""), ("a/b/c/x", "")];
            let hako = with(&files);
            build(&hako, &[]).ok();
            let listed = hako.call(&["run", "--rm", "built", "find", "/e", "/p", "-type", "f"]);
            listed.prints("/e/home.md\n/p/b/c/x\n");
        },
    ),
    Case::new("build-broken-archive", DOCKERFILE, "ADD of what cannot be unpacked fails", || {
        let hako = with(&[("Dockerfile", &from("ADD a.tar /a/"))]);
        let entries = [
            hako_tests::archive::Entry::file("f", 0o644, "x"),
            hako_tests::archive::Entry::file("f/below", 0o644, "x"),
        ];
        hako.place().write("context/a.tar", hako_tests::archive::tar(&entries));
        build(&hako, &[]).exits(1).complains("no directory");
        hako.place().write("context/Dockerfile", from("COPY --chown=4294967295:7 a.tar /"));
        build(&hako, &[]).fails();
    }),
    Case::new(
        "build-hosts-and-tmpfs",
        DOCKERFILE,
        "--add-host is in the key; tmpfs runs programs",
        || {
            let run = "RUN grep a.test /etc/hosts > /h\nRUN --mount=type=tmpfs,target=/t \
            cp /bin/busybox /t/busybox && /t/busybox true";
            let hako = with(&[("Dockerfile", &from(run))]);
            for address in ["1.2.3.4", "1.2.3.5"] {
                build(&hako, &["--add-host", &format!("a.test:{address}")]).ok();
                hako.call(&["run", "--rm", "built", "cat", "/h"]).says(address);
            }
        },
    ),
    Case::new("build-long", BUILD, "a thousand steps, and output without a line's end", || {
        let hako = with(&[("Dockerfile", &from(&"WORKDIR /\n".repeat(1000)))]);
        build(&hako, &["-q"]).ok();
        let run = from("RUN head -c 20000000 /dev/zero | tr '\\0' x");
        hako.place().write("context/Dockerfile", run);
        build(&hako, &[]).complains("output clipped");
    }),
    Case::new("build-failing-step", BUILD, "what it printed, its lines and code are shown", || {
        let hako = with(&[("Dockerfile", &from("RUN echo before; exit 3"))]);
        let failed = build(&hako, &[]);
        failed.exits(1).complains("before").complains(">>> RUN echo before; exit 3");
        failed.complains("did not complete successfully: exit code: 3");
        hako.call(&["image", "inspect", "built"]).fails();
    }),
    Case::new("build-onbuild", DOCKERFILE, "triggers are done by the image built upon", || {
        let hako = with(&[("Dockerfile", &from("ONBUILD COPY f /f\nONBUILD RUN cat /f > /g"))]);
        build(&hako, &[]).ok();
        hako.call(&["tag", "built", "base"]).ok();
        hako.place().write("context/Dockerfile", "FROM base\n");
        hako.place().write("context/f", "trigger");
        build(&hako, &[]).ok();
        hako.call(&["run", "--rm", "built", "cat", "/g"]).prints("trigger");
        assert!(hako.inspect("built")["Config"]["OnBuild"].is_null());
    }),
    Case::new("build-unused-stage", BUILD, "stages that nobody needs are not built", || {
        let text = format!(
            "FROM {BUSYBOX} AS unused\nRUN false\nFROM {BUSYBOX} AS used\nRUN true\n\
             FROM {BUSYBOX}\nRUN exit 9"
        );
        let hako = with(&[("Dockerfile", &text)]);
        build(&hako, &["--target", "used"]).ok();
        build(&hako, &[]).exits(1).complains("exit code: 9");
        build(&hako, &["--target", "nothing"]).exits(1).complains("could not be found");
    }),
    Case::new("build-permissions", DOCKERFILE, "of files and what COPY makes above them", || {
        let hako = with(&[
            ("Dockerfile", &from("COPY tool /made/here/\nCOPY dir /dir")),
            ("tool", "x"),
            ("dir/f", "x"),
        ]);
        let set = |name: &str, mode| {
            let path = hako.place().join(format!("context/{name}"));
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        set("tool", 0o4755);
        set("dir", 0o700);
        build(&hako, &[]).ok();
        let look = "stat -c '%a %u:%g' /made /made/here/tool /dir /dir/f";
        hako.call(&["run", "--rm", "built", "sh", "-c", look])
            .prints("755 0:0\n4755 0:0\n700 0:0\n644 0:0\n");
    }),
    Case::new("build-killed", "Crash", "a build that is killed leaves nothing running", || {
        let hako = with(&[("Dockerfile", &from("RUN echo begun; sleep 1000"))]);
        let context = hako.place().join("context").to_string_lossy().into_owned();
        let mut child = hako.spawn(&["build", &context]);
        let runtime = hako.run_root().join("runtime");
        let running = || fs::read_dir(&runtime).is_ok_and(|mut entries| entries.next().is_some());
        command::wait_until("the step runs", running);
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        command::wait_until("the container is gone", || !running());
        // The next command that changes something sweeps.
        hako.run(&[], &["true"]).ok();
        let left = fs::read_dir(hako.root().join("snapshots/active")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "snapshots are left");
        build(&hako, &["--target", "0"]).fails();
        let left = fs::read_dir(hako.run_root().join("build")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "directories of builds are left");
    }),
    Case::new("build-prune", "docker builder prune(1)", "what is kept is told, and goes", || {
        let hako = with(&[("Dockerfile", &from("RUN echo a > /a"))]);
        build(&hako, &[]).ok();
        hako.call(&["builder", "du"]).says("RUN echo a > /a");
        hako.call(&["builder", "prune", "-f"]).says("Total:");
        let cache = "RUN --mount=type=cache,target=/c,id=i echo x >> /c/f; wc -l < /c/f";
        hako.place().write("context/Dockerfile", from(cache));
        build(&hako, &[]).complains(" 1\n");
        hako.call(&["builder", "prune", "-f"]).ok();
        build(&hako, &[]).complains(" 1\n");
        hako.place().write("context/Dockerfile", from("RUN echo a > /a"));
        assert!(ended(&build(&hako, &[]), "RUN echo a", "DONE"));
        hako.call(&["run", "--rm", "built", "cat", "/a"]).prints("a\n");
    }),
    Case::new("build-network-none", BUILD, "RUN --network=none has loopback only", || {
        let hako = with(&[("Dockerfile", &from("RUN --network=none ls /sys/class/net"))]);
        if !std::path::Path::new("/sys/class/net/lo").exists() {
            skip!("no loopback interface to compare with");
        }
        let built = build(&hako, &[]);
        let shown: Vec<&str> = built
            .stderr
            .lines()
            .filter(|line| line.ends_with(" lo") || line.contains(" eth"))
            .collect();
        assert!(shown.len() == 1 && shown[0].ends_with(" lo"), "{}", built.stderr);
    }),
];
