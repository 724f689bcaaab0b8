//! `hako registry serve`: every demand of the OCI Distribution Specification, other programs as its
//! clients, hostile ones, and SIGKILL.

#![forbid(unsafe_code)]

mod clients;
mod conformance;
mod floods;
mod hostile;
mod proxy;
mod server;
mod specification;
mod tokens;

fn main() -> std::process::ExitCode {
    hako_tests::run(
        "registry",
        &[
            specification::CASES,
            conformance::CASES,
            clients::CASES,
            tokens::CASES,
            proxy::CASES,
            hostile::CASES,
            floods::CASES,
        ],
    )
}
