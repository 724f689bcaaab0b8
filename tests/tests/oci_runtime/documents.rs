//! What is wrong with a document is said with its place; `plan` says what a document comes to.

use std::fs;

use hako_tests::{Case, binary, bundle::Bundle, command::Output, runtime::Container};
use serde_json::{Value, json};

use super::refused;

const ERRORS: &str = "runtime.md#errors";
const SCHEMA: &str = "config-schema.json";
const PLAN: &str = "hako-runc plan";
const OTHERS: &[(&str, &str)] = &[("runc", "has no plan"), ("crun", "has no plan")];

/// Runs a verb on a bundle whose configuration is this text.
#[track_caller]
fn on_text(verb: &str, text: &str) -> Output {
    let container = Container::new(Bundle::new());
    fs::write(container.bundle.path().join("config.json"), text).expect("our own directory");
    let bundle = container.bundle.path();
    let mut words = vec![verb, "--bundle", bundle.to_str().expect("UTF-8")];
    if verb != "plan" {
        words.push(container.id());
    }
    container.call(&words)
}

/// One member of each line, so that lines can be told.
fn pretty(change: impl FnOnce(&mut Value)) -> String {
    let mut spec = hako_tests::bundle::default_spec();
    change(&mut spec);
    serde_json::to_string_pretty(&spec).expect("a document")
}

/// The number of the line that has this in it.
#[track_caller]
fn line_with(text: &str, part: &str) -> usize {
    1 + text.lines().position(|line| line.contains(part)).expect("it is there")
}

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "wrong-type-names-the-field",
        ERRORS,
        "a value of a wrong type is refused with its path",
        || {
            let cases: &[(&str, &str, Value)] = &[
                ("/process/user/uid", "process.user.uid", json!("x")),
                ("/process/args", "process.args", json!("sh")),
                ("/mounts/0/options", "mounts[0].options", json!(7)),
                ("/linux/namespaces", "linux.namespaces", json!({})),
                ("/root/readonly", "root.readonly", json!("yes")),
            ];
            for (pointer, field, value) in cases {
                let output = on_text("run", &pretty(|spec| *set(spec, pointer) = value.clone()));
                output.fails().complains(field).is_sane();
            }
        },
    )
    .peers_fail(&[("runc", "names types of Go"), ("crun", "names only some")]),
    Case::new(
        "wrong-value-names-field-and-line",
        ERRORS,
        "a value that means nothing is refused with path and line",
        || {
            let text = pretty(|spec| spec["linux"]["namespaces"][1]["type"] = json!("colour"));
            let line = line_with(&text, "colour");
            on_text("run", &text)
                .fails()
                .complains("linux.namespaces[1].type")
                .complains(&format!("config.json:{line}"));
        },
    )
    .peers_fail(&[("runc", "names no field"), ("crun", "names no field")]),
    Case::new(
        "failed-step-names-step-and-line",
        ERRORS,
        "a step that fails is named, with the line that asked for it",
        || {
            let text = pretty(|spec| {
                spec["mounts"][2]["options"] = json!(["nosuid", "no-such-option"]);
            });
            let line = line_with(&text, "\"devpts\"");
            let output = on_text("run", &text);
            output.fails().complains("mounts[2]").complains("devpts").complains("/dev/pts");
            let near = (line.saturating_sub(8)..=line)
                .any(|n| output.stderr.contains(&format!("config.json:{n}")));
            assert!(near, "no line near {line}\n{output}");
        },
    )
    .peers_fail(&[("runc", "names no line"), ("crun", "names no line")]),
    Case::new("bad-documents", SCHEMA, "what the schema's own tests call bad is refused", || {
        for entry in
            fs::read_dir(binary::data("oci-runtime-schema/test/config/bad")).expect("test data")
        {
            let path = entry.expect("test data").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Of another system; they say nothing about Linux.
            if !name.starts_with("linux-") && !name.starts_with("invalid") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("test data");
            let output = on_text("run", &text);
            assert_ne!(output.code, 0, "{name}\n{output}");
            output.is_sane();
        }
    }),
    Case::new(
        "plan-lists-every-step",
        PLAN,
        "each step is listed with the line that it comes from, and nothing is done",
        || {
            let text = pretty(|_| ());
            let output = on_text("plan", &text);
            let line = line_with(&text, "/dev/pts");
            let listed =
                output.ok().lines().find(|l| l.contains("devpts") && l.contains("mounts[2]"));
            let listed = listed.unwrap_or_else(|| panic!("no devpts\n{output}"));
            let shown =
                listed.split_whitespace().rev().nth(1).and_then(|n| n.parse::<usize>().ok());
            assert!(shown.is_some_and(|n| n.abs_diff(line) <= 8), "{listed}, not near {line}");
            output.says("pivot").says("execute").says("new process");
        },
    )
    .peers_fail(OTHERS),
    Case::new("plan-json", PLAN, "… as JSON, with who does it", || {
        let container = Container::new(Bundle::new());
        container.bundle.write();
        let bundle = container.bundle.path();
        let output =
            container.call(&["plan", "--json", "--bundle", bundle.to_str().expect("UTF-8")]);
        let steps: Value = serde_json::from_str(output.ok()).expect("JSON");
        let steps = steps.as_array().expect("a list");
        assert!(steps.len() > 30, "{output}");
        for step in steps {
            assert!(matches!(step["by"].as_str(), Some("caller" | "process")), "{step}");
            assert!(step["step"].is_string() && step["field"].is_string(), "{step}");
        }
        // All of this document is on one line.
        assert!(steps.iter().any(|step| step["line"] == json!(1)), "{output}");
    })
    .peers_fail(OTHERS),
    Case::new("plan-does-nothing", PLAN, "a bundle that is planned leaves nothing", || {
        let container = Container::new(Bundle::new());
        container.bundle.write();
        let bundle = container.bundle.path();
        container.call(&["plan", "--bundle", bundle.to_str().expect("UTF-8")]).ok();
        assert!(fs::read_dir(container.root()).expect("our own").next().is_none());
        container.call(&["list", "-q"]).prints("");
    })
    .peers_fail(OTHERS),
    Case::new("version-2", ERRORS, "a version that is not 1.x is refused with its path", || {
        refused(|bundle| bundle.spec["ociVersion"] = json!("2.0.0")).complains("version");
    })
    .peers_fail(&[("runc", "1.1 does not look at it"), ("crun", "does not look at it")]),
];

/// The value at a JSON pointer, which is made where its object has it not.
fn set<'a>(spec: &'a mut Value, pointer: &str) -> &'a mut Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = spec.pointer_mut(parent).expect("the default document has it");
    &mut parent[name]
}
