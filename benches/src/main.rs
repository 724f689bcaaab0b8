//! Measures hako against its peers: `cargo xtask bench [NAME...]`.
//!
//! Everything is a ratio inside one run: the contestants of a bench take turns, round by round, on
//! the same machine in the same minute, in the same view of the cgroups. Absolute times are noise
//! across machines; minima and processor times are steadier than means. Results are printed as a
//! table and written as JSON (`$HAKO_BENCH_OUT/<name>.json`). BUDGETS.md says what is promised.

#![forbid(unsafe_code)]

mod daemons;
mod disk;
mod engines;
mod images;
mod measure;
mod memory;
mod packages;
mod peers;
mod registry;
mod report;
mod runtimes;

use std::process::ExitCode;

use hako_tests::sandbox;

/// One bench: a question, and who answers it.
struct Bench {
    name: &'static str,
    asks: &'static str,
    run: fn() -> Result<report::Table, String>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "runtime-run",
        asks: "a container of /bin/true from a bundle, start to removed",
        run: runtimes::run,
    },
    Bench {
        name: "runtime-verbs",
        asks: "create, state, start, exec, delete",
        run: runtimes::verbs,
    },
    Bench { name: "sequence", asks: "200 containers one after another", run: runtimes::sequence },
    Bench { name: "parallel", asks: "50 containers at once", run: runtimes::parallel },
    Bench { name: "engine-run", asks: "`run --rm --network none IMAGE true`", run: engines::run },
    Bench {
        name: "monitor-memory",
        asks: "private memory of what stays beside a detached container",
        run: memory::run,
    },
    Bench {
        name: "load",
        asks: "an archive into an empty store, ready to be run",
        run: images::load,
    },
    Bench {
        name: "pull",
        asks: "from a registry on loopback into an empty store, ready to be run",
        run: images::pull,
    },
    Bench { name: "rmi", asks: "removing what was loaded", run: images::rmi },
    Bench {
        name: "push-unchanged",
        asks: "pushing an image that the registry has",
        run: images::push,
    },
    Bench {
        name: "read-all",
        asks: "a container that reads every file of its image, which is in memory",
        run: images::read,
    },
    Bench {
        name: "registry",
        asks: "a gibibyte pushed to and pulled from a registry: what the server pays",
        run: registry::run,
    },
];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.iter().any(|name| name == "--list") {
        for bench in BENCHES {
            println!("{:<16} {}", bench.name, bench.asks);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) =
        names.iter().find(|name| BENCHES.iter().all(|bench| bench.name != **name))
    {
        eprintln!("no bench {unknown:?}; --list names them");
        return ExitCode::from(2);
    }
    // crun refuses hybrid cgroups, so every contestant gets the v1 hierarchies only.
    // The sandbox also ends whatever a contestant leaves.
    match sandbox::enter_with_legacy_cgroups("bench") {
        Ok(sandbox::Place::Inside) => {}
        Ok(sandbox::Place::Done(code)) => return code,
        Err(error) => {
            eprintln!("cannot make a sandbox: {error}");
            return ExitCode::FAILURE;
        }
    }
    let mut failed = false;
    for bench in BENCHES
        .iter()
        .filter(|bench| names.is_empty() || names.iter().any(|name| name == bench.name))
    {
        println!("== {}: {}", bench.name, bench.asks);
        match (bench.run)() {
            Ok(table) => {
                table.print();
                if let Err(error) = table.write(bench.name, bench.asks) {
                    eprintln!("{}: {error}", bench.name);
                    failed = true;
                }
            }
            Err(error) => {
                eprintln!("{}: {error}", bench.name);
                failed = true;
            }
        }
        println!();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
