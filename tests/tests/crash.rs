//! The table of this surface.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hako_tests::run("crash", &[])
}
