//! hako: one binary for the whole container stack.
//!
//! What it carries is built by `build.rs`; what it does is [`hako_cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

use hako_cli::Embedded;

/// hako-runc and the image `hako:tour`.
const EMBEDDED: Embedded = Embedded {
    runtime: include_bytes!(concat!(env!("OUT_DIR"), "/hako-runc")),
    runtime_id: env!("HAKO_RUNC_ID"),
    tour: include_bytes!(concat!(env!("OUT_DIR"), "/tour.tar")),
    tour_id: env!("HAKO_TOUR_ID"),
};

fn main() -> ExitCode {
    hako_cli::main(EMBEDDED)
}
