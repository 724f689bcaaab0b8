//! The OCI Runtime Specification (1.3, Linux), one row for each demand.
//!
//! Every row runs a real container, and looks at it from inside (what its process prints) or from
//! outside (the state, `/proc`, cgroups). The rows run on any runtime: `HAKO_TEST_RUNTIME=runc`.

#![forbid(unsafe_code)]

mod annotations;
mod cgroup;
mod command_line;
mod devices;
mod documents;
mod events;
mod extensions;
mod hooks;
mod hotplug;
mod lifecycle;
mod mounts;
mod namespaces;
mod network;
mod process;
mod rootless;
mod security;
mod suites;
mod update;

use hako_tests::{bundle::Bundle, command::Output, runtime::Container};

fn main() -> std::process::ExitCode {
    hako_tests::run(
        "oci_runtime",
        &[
            lifecycle::CASES,
            process::CASES,
            mounts::CASES,
            namespaces::CASES,
            network::CASES,
            devices::CASES,
            rootless::CASES,
            security::CASES,
            annotations::CASES,
            documents::CASES,
            extensions::CASES,
            cgroup::CASES,
            hooks::CASES,
            command_line::CASES,
            update::CASES,
            events::CASES,
            hotplug::CASES,
            suites::CASES,
        ],
    )
}

/// Runs a shell script in a container whose bundle was changed first.
#[track_caller]
fn sh(script: &str, change: impl FnOnce(&mut Bundle)) -> Output {
    let mut bundle = Bundle::sh(script);
    change(&mut bundle);
    Container::new(bundle).run()
}

/// The same for a bundle that must be refused: nothing of the container may run.
#[track_caller]
fn refused(change: impl FnOnce(&mut Bundle)) -> Output {
    let mut bundle = Bundle::sh("echo it runs; touch /ran");
    change(&mut bundle);
    let container = Container::new(bundle);
    let output = container.run();
    output.fails();
    assert!(!output.stdout.contains("it runs"), "it was refused, and ran\n{output}");
    assert!(!output.stderr.trim().is_empty(), "it was refused without a word\n{output}");
    output
}

/// A container whose process sleeps; created and started.
#[track_caller]
fn sleeping(change: impl FnOnce(&mut Bundle)) -> Container {
    let mut bundle = Bundle::sh("trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done");
    change(&mut bundle);
    let container = Container::new(bundle);
    container.create().ok();
    container.start().ok();
    hako_tests::command::wait_until("the process is up", || container.output().contains("up"));
    container
}
