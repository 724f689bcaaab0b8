//! Verbs that only look: state, list, ps, spec, features, plan.

use std::io::Write;
use std::path::Path;

use hako_oci::locate::line_of;
use hako_runtime::{Container, Plan};
use serde_json::{Value, json};

use crate::args::Parsed;
use crate::{Context, Failure, Outcome, run};

/// What `--version` prints.
pub(crate) fn version() -> String {
    // Lines and their order are runc's.
    format!(
        "hako-runc version {}\ncommit: {}\nspec: {}",
        env!("CARGO_PKG_VERSION"),
        option_env!("HAKO_COMMIT").unwrap_or("unknown"),
        hako_oci::runtime::VERSION
    )
}

fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|e| format!("write to standard output: {e}"))?;
    Ok(0)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// runc's form of a state: the specification's, and what engines read beside it.
fn state_of(container: &Container) -> Result<Value, Failure> {
    let state = container.state()?;
    let mut value = json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": state.pid.unwrap_or(0),
        "status": state.status.as_str(),
        "bundle": state.bundle,
        "rootfs": container.rootfs(),
        "created": container.created(),
    });
    if !state.annotations.is_empty() {
        value["annotations"] = json!(state.annotations);
    }
    value["owner"] = Value::from("");
    Ok(value)
}

/// `state`.
pub(crate) fn state(context: &Context, parsed: &Parsed) -> Outcome {
    let container = Container::load(&context.root, parsed.id("state")?)?;
    print(&pretty(&state_of(&container)?))
}

/// `list`.
pub(crate) fn list(context: &Context, parsed: &Parsed) -> Outcome {
    let mut states = Vec::new();
    for listed in Container::list(&context.root)? {
        match listed.container {
            Ok(container) => {
                let mut state = state_of(&container)?;
                state["owner"] = Value::from(owner(container.owner()));
                states.push(state);
            }
            Err(e) => context.log.warn(&format!("{}: {}", listed.id, crate::log::chain(&e))),
        }
    }
    if parsed.has("quiet") {
        let ids: Vec<&str> = states.iter().filter_map(|s| s["id"].as_str()).collect();
        return if ids.is_empty() { Ok(0) } else { print(&ids.join("\n")) };
    }
    match parsed.get("format") {
        Some("json") => print(&Value::from(states).to_string()),
        None | Some("table") => {
            let columns = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
            let mut rows = vec![columns.map(str::to_owned)];
            for state in &states {
                let text = |key: &str| {
                    state[key].as_str().map_or_else(|| state[key].to_string(), str::to_owned)
                };
                rows.push(["id", "pid", "status", "bundle", "created", "owner"].map(text));
            }
            print(&table(&rows))
        }
        Some(other) => Err(format!("invalid format option: {other}").into()),
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    // As runc's: a column and the space behind it are twelve wide at least.
    let mut widths = [9; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(c, w)| format!("{c:<w$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The name of a user of the host, or the number.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

/// `ps`.
pub(crate) fn ps(context: &Context, parsed: &Parsed) -> Outcome {
    let [id, options @ ..] = parsed.positional.as_slice() else {
        let message = "hako-runc: \"ps\" requires a minimum of 1 argument(s): container ID";
        return Err(message.to_owned().into());
    };
    let pids = Container::load(&context.root, id)?.processes()?;
    match parsed.get("format") {
        Some("json") => return print(&Value::from(pids).to_string()),
        None | Some("table") => {}
        Some(other) => return Err(format!("invalid format option: {other}").into()),
    }
    let default = ["-ef".to_owned()];
    let output = std::process::Command::new("ps")
        .args(if options.is_empty() { &default[..] } else { options })
        .output()
        .map_err(|e| format!("run ps: {e}"))?;
    if !output.status.success() {
        return Err(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|c| c == "PID")
        .ok_or("ps prints no column PID".to_owned())?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|p| p.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let rows: Vec<&str> = std::iter::once(header).chain(lines.filter(ours)).collect();
    print(&rows.join("\n"))
}

/// `spec`.
pub(crate) fn spec(_: &Context, parsed: &Parsed) -> Outcome {
    let name = parsed.text("config").or(parsed.text("file")).unwrap_or("config.json");
    let path = Path::new(parsed.text("bundle").unwrap_or(".")).join(name);
    let rootless = parsed
        .has("rootless")
        .then(|| (hako_sys::cred::effective_uid(), hako_sys::cred::effective_gid()));
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let text = pretty(&hako_runtime::template(rootless, unified));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(
        |e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("File {} exists. Remove it first", path.display())
            }
            _ => format!("create {}: {}", path.display(), hako_sys::Errno::of(&e)),
        },
    )?;
    writeln!(file, "{text}").map_err(|e| format!("write {}: {e}", path.display()))?;
    Ok(0)
}

/// `checkpoint` and `restore`.
pub(crate) fn no_checkpoint(_: &Context, _: &Parsed) -> Outcome {
    Err(crate::tables::NO_CHECKPOINT.to_owned().into())
}

/// `features`.
pub(crate) fn features(_: &Context, _: &Parsed) -> Outcome {
    print(&pretty(&hako_runtime::features()))
}

/// `plan`.
pub(crate) fn plan(context: &Context, parsed: &Parsed) -> Outcome {
    let (bundle, spec) = run::load(parsed)?;
    let options = run::options(context, parsed, "plan")?;
    let plan = Plan::new(&spec, &bundle, &options).map_err(|error| Failure {
        message: format!("{}{}", crate::log::chain(&error), run::place(parsed, error.field())),
        status: 1,
    })?;
    for warning in plan.warnings() {
        context.log.warn(warning);
    }
    let path = bundle.join(parsed.text("config").unwrap_or("config.json"));
    let text =
        std::fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
    let before = plan.preparations();
    let lines: Vec<(&str, String, &str, Option<usize>)> = before
        .iter()
        .map(|(step, field)| ("caller", step.clone(), field.as_str()))
        .chain(plan.steps().iter().map(|step| ("process", step.to_string(), step.field())))
        .map(|(who, step, field)| (who, step, field, line_of(&text, field)))
        .collect();
    if parsed.has("json") {
        let steps = lines.iter().map(
            |(who, step, field, line)| json!({"by": who, "step": step, "field": field, "line": line}),
        );
        return print(&pretty(&steps.collect()));
    }
    let rows: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(i, (who, step, field, line))| {
            let line = line.map(|line| line.to_string()).unwrap_or_default();
            format!("{i:3}  {who:<7}  {step:<60}  {line:>5}  {field}").trim_end().to_owned()
        })
        .collect();
    print(&rows.join("\n"))
}
