//! Cgroup v2 as a container's limits: every resource of the specification, seen in the kernel's files and, where a
//! limit can be felt, from inside. Runs wherever cgroup v2 has the controllers; `cargo xtask vm` makes such a place.

#![forbid(unsafe_code)]

mod devices;
mod life;
mod limits;
mod pressure;
mod support;

fn main() -> std::process::ExitCode {
    hako_tests::run("cgroup2", &[limits::CASES, pressure::CASES, devices::CASES, life::CASES])
}
