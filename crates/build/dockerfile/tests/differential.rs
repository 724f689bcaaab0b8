//! The parser against BuildKit's own, which PyPI's `dockerfile` 3.4.0 carries (v0.12.5): what is
//! accepted, and each instruction's name, flags, arguments, heredocs and lines.
//!
//! `.ci/run` installs it; `HAKO_DOCKERFILE_ORACLE` names a python that has it. Without, the test
//! says so.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A failing call fails the test.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use hako_dockerfile::node::{self, Node};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

const SCRIPT: &str = r#"
import json, sys
import dockerfile
out = []
for text in json.load(sys.stdin):
    try:
        out.append([{
            "cmd": c.cmd or "", "sub": c.sub_cmd or "", "json": c.json, "original": c.original or "",
            "lines": [c.start_line, c.end_line], "flags": list(c.flags), "value": list(c.value),
            "heredocs": [[h.name, h.file_descriptor, h.content] for h in c.heredocs],
        } for c in dockerfile.parse_string(text)])
    except dockerfile.GoParseError as error:
        out.append(str(error))
    except UnicodeDecodeError:
        # It splits characters where a byte of theirs looks like a space in Latin-1.
        out.append(None)
json.dump(out, sys.stdout)
"#;

/// A python with the oracle in it.
fn oracle() -> Option<PathBuf> {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target/dockerfile-oracle/bin/python");
    let python =
        std::env::var_os("HAKO_DOCKERFILE_ORACLE").map_or_else(|| here.into(), PathBuf::from);
    let found = Command::new(&python).args(["-c", "import dockerfile"]).output();
    match found {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            eprintln!("SKIP differential: {} has no module `dockerfile`", python.display());
            None
        }
    }
}

fn ask(python: &PathBuf, texts: &[String]) -> Vec<Value> {
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(texts).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the oracle prints of an instruction, made of ours.
fn shown(node: &Node) -> Value {
    let inner = node.trigger.as_deref().unwrap_or(node);
    let text = |words: &[hako_dockerfile::source::Word]| {
        words.iter().map(|word| word.text.clone()).collect::<Vec<_>>()
    };
    let name = inner.keyword.text.to_ascii_uppercase();
    let mut value = text(&inner.arguments);
    if matches!(name.as_str(), "ENV" | "LABEL") && !inner.legacy {
        value = value
            .iter()
            .flat_map(|word| word.split_once('=').map_or([word.as_str(), ""], |(k, v)| [k, v]))
            .map(String::from)
            .collect();
    }
    let known = "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD \
                 RUN SHELL STOPSIGNAL USER VOLUME WORKDIR";
    if !known.split(' ').any(|known| known == name) {
        // It keeps an empty word of what it does not know.
        value = vec![String::new()];
    }
    json!({
        "cmd": node.keyword.text,
        "sub": node.trigger.as_ref().map(|inner| inner.keyword.text.clone()).unwrap_or_default(),
        "json": inner.json,
        "lines": [node.lines.first, node.lines.last],
        "flags": text(&node.flags),
        "value": value,
        // It forgets those of an ONBUILD.
        "heredocs": node.heredocs.iter().filter(|_| node.trigger.is_none()).map(|document| json!([
            document.name, document.file_descriptor, String::from_utf8_lossy(&document.content)
        ])).collect::<Vec<_>>(),
    })
}

/// What is known to differ, because later BuildKits do, or because we mean to.
fn may_differ(text: &str, theirs: &Value) -> bool {
    // v0.12 took a JSON array with anything behind it; now that is no JSON.
    let is_whole = |original: &str| {
        original.find('[').is_some_and(|at| serde_json::from_str::<Value>(&original[at..]).is_ok())
    };
    let json_and_more = match theirs {
        Value::Array(commands) => commands.iter().any(|command| {
            command["json"] == true && !is_whole(command["original"].as_str().unwrap_or_default())
        }),
        Value::String(error) => {
            error.contains("comprised of strings only") && node::parse(text.as_bytes()).is_ok()
        }
        _ => false,
    };
    // It reads flags byte by byte, as Latin-1.
    let foreign_flag = text.contains("--") && !text.is_ascii();
    // It shows an empty word of ONBUILD ONBUILD, which means nothing anyhow.
    let chained = theirs.as_array().is_some_and(|commands| {
        let sub = |command: &Value| command["sub"].as_str().unwrap_or_default().to_uppercase();
        commands.iter().any(|command| sub(command) == "ONBUILD")
    });
    theirs.is_null() || json_and_more || foreign_flag || chained
}

fn compare(python: &PathBuf, texts: &[String]) -> usize {
    let answers = ask(python, texts);
    assert_eq!(answers.len(), texts.len());
    let mut compared = 0;
    for (text, theirs) in texts.iter().zip(&answers) {
        if may_differ(text, theirs) {
            continue;
        }
        compared += 1;
        let ours = node::parse(text.as_bytes());
        let Some(commands) = theirs.as_array() else {
            assert!(ours.is_err(), "{text:?}\naccepted; BuildKit says {theirs}");
            continue;
        };
        let nodes = match ours {
            Ok(nodes) => nodes.nodes,
            Err(error) => panic!("{text:?}\nBuildKit accepts it; we say {error}"),
        };
        assert_eq!(nodes.len(), commands.len(), "{text:?}\n{theirs:#}");
        for (node, command) in nodes.iter().zip(commands) {
            let mut command = command.clone();
            let original = command.as_object_mut().unwrap().remove("original").unwrap();
            let original = original.as_str().unwrap();
            assert_eq!(shown(node), command, "{text:?}");
            let ours = if original.is_empty() { "" } else { &node.original };
            assert!(original.trim_start().starts_with(ours), "{text:?}: {original:?}");
        }
    }
    compared
}

#[test]
fn dockerfiles_of_our_own() {
    let Some(python) = oracle() else { return };
    let texts: Vec<String> = include_str!("dockerfiles.txt")
        .split("\n====\n")
        .map(|text| text.replace("\\x0d", "\r").replace("\\xfeff", "\u{feff}"))
        .collect();
    assert!(texts.len() > 40, "only {} Dockerfiles", texts.len());
    let compared = compare(&python, &texts);
    assert!(compared > texts.len() - 4, "only {compared} could be compared");
}

/// Pieces of which lines are made: what parsers stumble over.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(
        &[
            " ",
            "  ",
            "\t",
            "\u{a0}",
            "\r",
            "\u{b}",
            "a",
            "b=c",
            "=",
            "d=",
            "'",
            "\"",
            "\\",
            "\\\\",
            "`",
            "\\\"",
            "$v",
            "${v}",
            "${v:-",
            "}",
            "{",
            "#",
            "# x",
            "--",
            "--f",
            "--f=g",
            "--mount=type=cache,target=/x",
            "<<E",
            "<<-E",
            "<<'E'",
            "3<<F",
            "<<<",
            "<<",
            "[",
            "]",
            "[\"a\", \"b\"]",
            "[]",
            "[1]",
            "[\"\\u00fc\"]",
            ",",
            "null",
            "AS",
            "as",
            "CMD",
            "NONE",
            "RUN",
            "COPY",
            "ü",
            "/",
            "*",
            "-",
            "e.f/g:h",
            "&&",
            "|",
            ";",
        ][..],
    );
    fixed.prop_map(str::to_owned)
}

fn keyword() -> impl Strategy<Value = String> {
    prop::sample::select(
        &[
            "ADD",
            "ARG",
            "CMD",
            "COPY",
            "ENTRYPOINT",
            "ENV",
            "EXPOSE",
            "FROM",
            "HEALTHCHECK",
            "LABEL",
            "MAINTAINER",
            "ONBUILD",
            "RUN",
            "SHELL",
            "STOPSIGNAL",
            "USER",
            "VOLUME",
            "WORKDIR",
            "run",
            "Copy",
            "ONBUILD RUN",
            "ONBUILD COPY",
            "FOO",
            "# syntax=x",
            "# escape=`",
            "#",
            "",
            "E",
            "F",
            "\tE",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn line() -> impl Strategy<Value = String> {
    let ends = prop::sample::select(
        &["\n", "\n", "\n", "\r\n", " \\\n", "\\\n", " \\ \n", "`\n", "\n\n"][..],
    );
    (keyword(), prop::collection::vec(piece(), 0..7), prop::bool::ANY, ends).prop_map(
        |(keyword, pieces, spaced, end)| {
            let words = pieces.join(if spaced { " " } else { "" });
            format!("{keyword} {words}{end}")
        },
    )
}

#[test]
fn dockerfiles_of_chance() {
    let Some(python) = oracle() else { return };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let file = prop::collection::vec(line(), 1..8).prop_map(|lines| lines.concat());
    let rounds =
        std::env::var("HAKO_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000);
    let texts: Vec<String> =
        (0..rounds).map(|_| file.new_tree(&mut runner).unwrap().current()).collect();
    let compared = compare(&python, &texts);
    assert!(compared > rounds / 2, "only {compared} of {rounds} could be compared");
}
