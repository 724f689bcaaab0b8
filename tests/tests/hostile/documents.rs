//! Attacks by JSON documents: size, depth, and what a configuration says.

use hako_tests::{
    Case,
    archive::gzip,
    image::{Image, busybox_layer, pack},
};
use serde_json::{Value, json};

use super::Attack;

const JSON: &str = "SECURITY I: documents";

/// An image whose configuration has this `config`.
fn with_config(change: impl FnOnce(&mut Value)) -> Image {
    let mut image = Image::new("evil:1", vec![busybox_layer()]);
    change(&mut image.config);
    image
}

/// Runs an image whose configuration was changed; it may be refused at load or at run.
#[track_caller]
fn run_with(
    change: impl FnOnce(&mut Value),
    script: &str,
) -> (Attack, hako_tests::command::Output) {
    let attack = Attack::new();
    let mut output = attack.load_image(&with_config(change));
    if output.code == 0 {
        output = attack.run(&[], script);
    }
    (attack, output)
}

pub(crate) const CASES: &[Case] = &[
    Case::new("json-huge", JSON, "a document of 300 MB is refused in bounded memory", || {
        for name in ["manifest.json", "index.json", "oci-layout"] {
            let attack = Attack::new();
            let mut files = Image::new("evil:1", vec![busybox_layer()]).combined_archive();
            let file = files.iter_mut().find(|(file, _)| file == name).expect("it is there");
            file.1 = vec![b' '; 300 << 20];
            let output = attack.load_bytes(&gzip(&pack(&files)));
            // Whoever reads one of the two documents need not look at the other.
            if output.code != 0 {
                attack.refused(&output);
            }
        }
    })
    .alone(),
    Case::new("json-deep", JSON, "a document of depth 100,000 is refused", || {
        for name in ["manifest.json", "index.json"] {
            let attack = Attack::new();
            let mut files = Image::new("evil:1", vec![busybox_layer()]).combined_archive();
            if name == "index.json" {
                files.retain(|(file, _)| file != "manifest.json");
            }
            let file = files.iter_mut().find(|(file, _)| file == name).expect("it is there");
            file.1 = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
            let output = attack.load_files(&files);
            attack.refused(&output);
        }
    }),
    Case::new("json-wrong-types", JSON, "documents of other shapes are refused", || {
        for text in [
            "{}",
            "null",
            "1",
            "\"x\"",
            "[null]",
            "[{}]",
            "[{\"Layers\":{}}]",
            "[[]]",
            "",
            "{",
            "\u{0}",
        ] {
            let attack = Attack::new();
            let mut files = Image::new("evil:1", vec![busybox_layer()]).docker_archive();
            files.iter_mut().find(|(file, _)| file == "manifest.json").expect("it is there").1 =
                text.into();
            let output = attack.load_files(&files);
            attack.refused(&output);
        }
    }),
    Case::new("config-user-too-big", "CVE-2024-40635", "ids of 2^31 and more are not 0", || {
        for user in
            ["2147483648", "4294967295", "4294967296", "99999999999", "-1", "0:4294967296", "1:2:3"]
        {
            let (_attack, output) = run_with(|config| config["User"] = json!(user), "id -u; id -g");
            let first = output.stdout.lines().next();
            assert!(
                first != Some("0") || user.starts_with("0:") && output.code != 0,
                "{user}\n{output}"
            );
        }
    }),
    Case::new(
        "config-user-with-newline",
        "CVE-2022-4318",
        "a line break in a user adds no entry",
        || {
            let user = "x:0:0::/root:/bin/sh\nroot:x:0:0::/:/bin/sh";
            let (_attack, output) =
                run_with(|config| config["User"] = json!(user), "cat /etc/passwd");
            output.fails();
        },
    ),
    Case::new("config-env", JSON, "entries without =, with line breaks, and empty ones", || {
        let env = json!(["NOVALUE", "=x", "", "A=line\nB=smuggled", "PATH=/bin"]);
        let (_attack, output) = run_with(|config| config["Env"] = env, "echo ${B-unset}");
        if output.code == 0 {
            output.prints("unset");
        }
    }),
    Case::new(
        "config-workdir",
        "CVE-2024-21626",
        "a working directory that leaves the container is refused",
        || {
            for directory in [
                "/proc/self/fd/3",
                "/proc/self/fd/7",
                "/proc/self/fd/8",
                "/proc/1/root",
                "/../../..",
                "relative",
            ] {
                let (_attack, output) = run_with(
                    |config| config["WorkingDir"] = json!(directory),
                    "ls ../../../../../../; cat /proc/1/comm",
                );
                assert!(!output.stdout.contains("hako-tests"), "{directory}\n{output}");
                assert!(
                    !output.stdout.contains("usr"),
                    "the host's root is seen from {directory}\n{output}"
                );
            }
        },
    ),
    Case::new("config-volumes", "CVE-2022-23648", "volumes with dots reach nothing", || {
        let attack = Attack::new();
        let climbing = format!("/{}", attack.climbing());
        let image = with_config(|config| {
            config["Volumes"] = json!({climbing: {}, "/..": {}, "": {}, "relative": {}});
        });
        if attack.load_image(&image).code == 0 {
            attack.run(&[], "find / -name file -path '*canary*' -exec cat {} +");
        }
    }),
    Case::new(
        "config-labels",
        "CVE-2026-53488",
        "labels are data, whatever they look like",
        || {
            let labels = json!({"io.hako.internal": "x", "a\nb": "c", "org.opencontainers.image.ref.name": "../x", "": ""});
            let (_attack, output) = run_with(|config| config["Labels"] = labels, "echo fine");
            output.prints("fine");
        },
    ),
    Case::new(
        "config-entrypoint",
        JSON,
        "an entrypoint of other types is refused, an empty one is none",
        || {
            for (value, fine) in [
                (json!("text"), false),
                (json!([1]), false),
                (json!([]), true),
                (json!(null), true),
            ] {
                let (_attack, output) =
                    run_with(|config| config["Entrypoint"] = value, "echo fine");
                assert!(!fine || output.stdout == "fine\n", "{output}");
            }
        },
    ),
    Case::new("config-of-another-system", JSON, "an image of another system is not run", || {
        let attack = Attack::new();
        let image = Image::new("evil:1", vec![busybox_layer()]);
        let mut files = image.docker_archive();
        let file =
            files.iter_mut().find(|(name, _)| name.ends_with(".json") && name != "manifest.json");
        let file = file.expect("a configuration");
        let mut value: Value = serde_json::from_slice(&file.1).expect("JSON");
        value["os"] = json!("windows");
        file.1 = value.to_string().into_bytes();
        let mut output = attack.load_files(&files);
        if output.code == 0 {
            output = attack.run(&[], "echo ran");
        }
        output.fails();
    }),
];
