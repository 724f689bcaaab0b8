//! hako-runc against crun, runc and the bare-C floor, on one bundle.

use std::{
    process::{Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use hako_tests::{bundle::Bundle, place::Place};
use serde_json::json;

use crate::{
    measure::{Contestant, take_turns, tool},
    peers::Runtime,
    report::{Table, ratio, shown},
};

/// The bundle of every runtime bench: the default configuration, `/bin/true`.
fn bundle(program: &[&str]) -> Rc<Bundle> {
    let mut bundle = Bundle::new();
    bundle.spec["process"]["args"] = json!(program);
    bundle.write();
    Rc::new(bundle)
}

fn missing(table: &mut Table, missing: Vec<String>) {
    for note in missing {
        table.note(note);
    }
}

/// `run` of /bin/true.
pub(crate) fn run() -> Result<Table, String> {
    let (runtimes, absent) = Runtime::all();
    let bundle = bundle(&["/bin/true"]);
    let state = Rc::new(Place::new("state"));
    let mut contestants: Vec<Contestant> = runtimes
        .into_iter()
        .map(|runtime| {
            let (bundle, state) = (Rc::clone(&bundle), Rc::clone(&state));
            Contestant::new(&runtime.name.clone(), move |round| {
                let mut command = runtime.command(state.path());
                command.arg("run").arg("--bundle").arg(bundle.path()).arg(format!("bench-{round}"));
                command
            })
        })
        .collect();
    let floor = tool("floor")?;
    contestants.push(Contestant::new("floor (C)", move |_| {
        let mut command = Command::new(&floor);
        command.arg(bundle.path()).arg("/bin/true");
        command
    }));
    let costs = take_turns(&contestants, 40)?;
    let mut table = Table::of_costs(&costs);
    missing(&mut table, absent);
    Ok(table)
}

/// Each verb alone.
pub(crate) fn verbs() -> Result<Table, String> {
    type Step = (&'static str, fn(&str) -> Vec<String>);
    const VERBS: &[Step] = &[
        ("create", |id| vec!["create".into(), "--bundle".into(), "BUNDLE".into(), id.into()]),
        ("state", |id| vec!["state".into(), id.into()]),
        ("start", |id| vec!["start".into(), id.into()]),
        ("exec", |id| vec!["exec".into(), id.into(), "/bin/true".into()]),
        ("delete", |id| vec!["delete".into(), "--force".into(), id.into()]),
    ];
    let (runtimes, absent) = Runtime::all();
    let bundle = bundle(&["/bin/sleep", "1000"]);
    let state = Rc::new(Place::new("state"));
    let mut table = Table::new(&[]);
    // One container for each round: created by one bench, started by the next …
    for (verb, words) in VERBS {
        let contestants: Vec<Contestant> = runtimes
            .iter()
            .cloned()
            .map(|runtime| {
                let (bundle, state) = (Rc::clone(&bundle), Rc::clone(&state));
                Contestant::new(&runtime.name.clone(), move |round| {
                    let mut command = runtime.command(state.path());
                    for word in words(&format!("bench-{round}")) {
                        if word == "BUNDLE" {
                            command.arg(bundle.path())
                        } else {
                            command.arg(word)
                        };
                    }
                    command
                })
            })
            .collect();
        table.group(verb, Table::of_costs(&take_turns(&contestants, 20)?));
    }
    missing(&mut table, absent);
    Ok(table)
}

/// 200 containers one after another.
pub(crate) fn sequence() -> Result<Table, String> {
    repeated(200, 1)
}

/// 50 containers at once.
pub(crate) fn parallel() -> Result<Table, String> {
    repeated(50, 50)
}

/// Runs `count` containers, `together` of them at once, three times for each runtime in turns.
fn repeated(count: usize, together: usize) -> Result<Table, String> {
    let (runtimes, absent) = Runtime::all();
    let bundle = bundle(&["/bin/true"]);
    let state = Place::new("state");
    let mut best = vec![Duration::MAX; runtimes.len()];
    for round in 0..3 {
        for (runtime, best) in runtimes.iter().zip(&mut best) {
            let begun = Instant::now();
            for first in (0..count).step_by(together) {
                let children: Vec<_> = (first..count.min(first + together))
                    .map(|number| {
                        let mut command = runtime.command(state.path());
                        command
                            .arg("run")
                            .arg("--bundle")
                            .arg(bundle.path())
                            .arg(format!("c-{round}-{number}"));
                        command
                            .stdin(Stdio::null())
                            .stdout(Stdio::null())
                            .stderr(Stdio::inherit())
                            .spawn()
                    })
                    .collect();
                for child in children {
                    let status = child
                        .and_then(|mut child| child.wait())
                        .map_err(|error| error.to_string())?;
                    if !status.success() {
                        return Err(format!("{}: {status}", runtime.name));
                    }
                }
            }
            *best = (*best).min(begun.elapsed());
        }
    }
    let mut table = Table::new(&["", "best of 3", "each", "wall ×"]);
    for (runtime, time) in runtimes.iter().zip(&best) {
        let (each, ratio) = (*time / count as u32, ratio(*time, best[0]));
        table.row(
            vec![runtime.name.clone(), shown(*time), shown(each), format!("{ratio:.2}")],
            json!({"name": runtime.name, "wall_us": time.as_micros() as u64, "containers": count, "wall_ratio": ratio}),
        );
    }
    missing(&mut table, absent);
    Ok(table)
}
