//! hako's command line, held to Docker's: flags, what they do, texts, exit codes.

#![forbid(unsafe_code)]

mod errors;
mod image_verbs;
mod images;
mod lecture;
mod lifecycle;
mod places;
mod run_flags;
mod terminal;

fn main() -> std::process::ExitCode {
    hako_tests::run(
        "docker_cli",
        &[
            run_flags::CASES,
            terminal::CASES,
            lifecycle::CASES,
            images::CASES,
            image_verbs::CASES,
            errors::CASES,
            places::CASES,
            lecture::CASES,
        ],
    )
}
