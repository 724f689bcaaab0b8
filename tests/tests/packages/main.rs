//! Images from Debian packages: what runs of them, what they are made of, and which are not made.
//!
//! Packages that apt fetches are put into a small archive, which is signed with a test's key and
//! served on loopback. They are fetched before the tests enter their sandbox, which has no network,
//! and kept in the build directory for the next run.

#![forbid(unsafe_code)]

mod debian;
mod making;
mod programs;
mod refused;

fn main() -> std::process::ExitCode {
    if !hako_tests::sandbox::is_inside() && !std::env::args().any(|word| word == "--list") {
        debian::fetch();
    }
    hako_tests::run("packages", &[programs::CASES, making::CASES, refused::CASES])
}
