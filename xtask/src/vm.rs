//! `cargo xtask vm`: runs tests in a small virtual machine with what this host may lack.
//!
//! The guest has cgroup v2 with every controller, AppArmor, swap and a kernel of known version. Nothing is
//! installed into the host and no privilege is needed: kernel, QEMU and tools are unpacked into a cache.
//! tests/vm/README.md says how to use it.

mod archive;
mod error;
mod guest;
mod machine;
mod modules;
mod packages;
mod programs;
mod report;
mod selinux;
mod step;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use archive::Tree;
use error::{At, Error, Result};
use guest::{Job, Kind, quote};
use machine::{Machine, Qemu};
use packages::Packages;
use report::{Case, Report};

const USAGE: &str = "\
Runs tests in a small virtual machine (QEMU, no KVM needed) with cgroup v2 and AppArmor.

Usage: cargo xtask vm [OPTIONS] [TEST_PROGRAM...]

Without any job it runs the suite: cgroup2, apparmor and oci_runtime of tests/, hako-cgroup and hako-runtime.

Jobs, in the order given:
  TEST_PROGRAM          a Rust test executable
  --test PACKAGE[:TEST] build a package's tests (or one test target, or `lib`) and run them
  --cmd SCRIPT          a line for the guest's shell; exit code 0 passes
  --shell               no jobs: a shell in the guest, on this terminal

What else is in the guest:
  --runtime NAME|PATH   test a peer (runc, crun), or this file as hako-runc (default: a debug build)
  --bin PATH            add a program with its libraries to /usr/local/bin
  --file PATH           add a file or directory, at the same path
  --filter TEXT         run only tests whose name holds TEXT
  --env NAME=VALUE      set for every job

The machine:
  --kernel NAME         6.12 (default), 6.1 or 5.10: Debian's cloud kernels
  --systemd             PID 1 is systemd, and the jobs are a service of it
  --selinux             SELinux in AppArmor's place, enforcing, with Debian's base policy
  --memory MIB          default 3072
  --timeout SECONDS     for the whole run, default 900
  --verbose             print all output, not only that of failures
  --require             where no guest can be had, fail instead of reporting SKIPPED
";

/// Debian's cloud kernels by the name that `--kernel` takes, and the suite that has each.
const KERNELS: &[(&str, &str)] =
    &[("6.12", "bookworm-backports"), ("6.1", "bookworm"), ("5.10", "bullseye")];

/// What runs when nothing is asked for.
const SUITE: &[&str] = &[
    "hako-tests:cgroup2",
    "hako-tests:apparmor",
    "hako-cgroup",
    "hako-runtime",
    "hako-tests:oci_runtime",
];

/// Tests that drive hako itself.
const ENGINE_TESTS: &[&str] =
    &["hako-tests:crash", "hako-tests:docker_cli", "hako-tests:hostile", "hako-tests:tour"];

/// What the guest gets where this host has it: peers, and tools that busybox has not or has only in part.
const TOOLS: &[&str] = &[
    "bash",
    "capsh",
    "crun",
    "dash",
    "ip",
    "ldd",
    "mount",
    "newgidmap",
    "newuidmap",
    "nsenter",
    "runc",
    "prlimit",
    "setpriv",
    "setsid",
    "strace",
    "umount",
    "unshare",
    "xz",
    "zstd",
];

#[derive(Debug)]
enum Wanted {
    Program(PathBuf),
    Test(String),
    /// Of a surface these rows, by their whole names.
    Rows(String, Vec<String>),
    Command(String),
}

#[derive(Debug)]
struct Options {
    wanted: Vec<Wanted>,
    shell: bool,
    systemd: bool,
    selinux: bool,
    runtime: Option<String>,
    programs: Vec<PathBuf>,
    files: Vec<PathBuf>,
    filters: Vec<String>,
    environment: Vec<(String, String)>,
    kernel: &'static (&'static str, &'static str),
    memory_mib: u32,
    seconds_max: u64,
    verbose: bool,
    require: bool,
}

/// Runs the task: whether everything that ran passed.
pub(crate) fn run(arguments: &[String]) -> std::result::Result<bool, String> {
    let options = Options::parse(arguments.iter().cloned()).map_err(|error| error.to_string())?;
    let Some(options) = options else {
        print!("{USAGE}");
        return Ok(true);
    };
    match boot_and_test(&options) {
        Err(error @ Error::Unavailable { .. }) if !options.require => {
            println!("vm result: SKIPPED. {error}");
            Ok(true)
        }
        outcome => outcome.map(|run| run.passed).map_err(|error| error.to_string()),
    }
}

pub(crate) use step::run as step;

/// What a run came to.
struct Run {
    cases: Vec<Case>,
    passed: bool,
}

impl Options {
    /// `None`: help was asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            wanted: Vec::new(),
            shell: false,
            systemd: false,
            selinux: false,
            runtime: None,
            programs: Vec::new(),
            files: Vec::new(),
            filters: Vec::new(),
            environment: Vec::new(),
            kernel: &KERNELS[0],
            memory_mib: 3072,
            seconds_max: 900,
            verbose: false,
            require: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let missing = || Error::Usage(format!("{argument} needs a value"));
                arguments.next().ok_or_else(missing)
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--shell" => options.shell = true,
                "--systemd" => options.systemd = true,
                "--selinux" => options.selinux = true,
                "--verbose" => options.verbose = true,
                "--require" => options.require = true,
                "--test" => options.wanted.push(Wanted::Test(value()?)),
                "--cmd" => options.wanted.push(Wanted::Command(value()?)),
                "--runtime" => options.runtime = Some(value()?),
                "--bin" => options.programs.push(value()?.into()),
                "--file" => options.files.push(value()?.into()),
                "--filter" => options.filters.push(value()?),
                "--env" => options.environment.push(pair(&value()?)?),
                "--kernel" => options.kernel = kernel(&value()?)?,
                "--memory" => options.memory_mib = number(&argument, &value()?)?,
                "--timeout" => options.seconds_max = number(&argument, &value()?)?,
                other if other.starts_with('-') => {
                    return Err(Error::Usage(format!(
                        "{other}: no such option; see `cargo xtask vm --help`"
                    )));
                }
                path => options.wanted.push(Wanted::Program(path.into())),
            }
        }
        if options.wanted.is_empty() && !options.shell {
            options.wanted.extend(SUITE.iter().map(|name| Wanted::Test((*name).to_owned())));
        }
        Ok(Some(options))
    }
}

fn pair(text: &str) -> Result<(String, String)> {
    let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| Error::Usage(format!("--env {text}: not NAME=VALUE")))
}

fn kernel(name: &str) -> Result<&'static (&'static str, &'static str)> {
    let names: Vec<_> = KERNELS.iter().map(|(name, _)| *name).collect();
    let unknown = || Error::Usage(format!("--kernel {name}: known are {}", names.join(", ")));
    KERNELS.iter().find(|(known, _)| *known == name).ok_or_else(unknown)
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Usage(format!("{option} {text}: not a number")))
}

fn boot_and_test(options: &Options) -> Result<Run> {
    let workspace = workspace()?;
    let cache = std::env::var_os("HAKO_VM_CACHE")
        .map_or_else(|| workspace.join("target/vm"), PathBuf::from);
    fs::create_dir_all(&cache).at("mkdir", &cache)?;
    // One machine at a time: an emulated guest takes the processors of two builds.
    let lock = cache.join("lock");
    let lock_file = File::create(&lock).at("create", &lock)?;
    lock_file.lock().at("lock", &lock)?;

    let packages = Packages::open(&cache);
    let qemu = Qemu::find(&packages)?;
    let (name, suite) = options.kernel;
    let package = packages.behind("linux-image-cloud-amd64", suite, "linux-image-")?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    let kernel = packages.package(&package, suite)?;

    let mut tree = Tree::new();
    if options.systemd {
        let root = packages.root("systemd-root", &["systemd", "dbus"], "bookworm")?;
        guest::add_systemd(&mut tree, &root, &workspace)?;
    }
    guest::add_scripts(&mut tree, &workspace)?;
    if options.selinux {
        tree.file("/vm/selinux", &selinux::policy(&packages, &workspace, &cache)?)?;
    }
    modules::add(&mut tree, &kernel, &release, &cache)?;
    let parser = packages.package("apparmor", "bookworm")?.join("sbin/apparmor_parser");
    guest::add_program(&mut tree, Path::new("/usr/sbin/apparmor_parser"), &parser)?;
    for tool in TOOLS {
        if let Some(path) = installed(tool) {
            guest::add_program(&mut tree, &Path::new("/usr/bin").join(tool), &path)?;
        }
    }
    guest::add_busybox(&mut tree, &packages.package("busybox-static", "bookworm")?)?;
    // Some tools are scripts that ask for it there, as every Debian has it.
    tree.symlink("/bin/bash", "/usr/bin/bash");
    for program in &options.programs {
        let name = program.file_name().unwrap_or(program.as_os_str());
        guest::add_program(&mut tree, &Path::new("/usr/local/bin").join(name), program)?;
    }
    for file in &options.files {
        let path = std::path::absolute(file).at("find", file)?;
        tree.copy(&path, &path)?;
    }
    let jobs = add_tests(&mut tree, &workspace, options)?;
    guest::add_jobs(&mut tree, &jobs);

    let initrd = cache.join("initrd.cpio");
    let size = tree.write(&initrd)?;
    println!(
        "vm: Debian's kernel {name}, QEMU {}, {} MiB of files, {} jobs",
        qemu.version(),
        size >> 20,
        jobs.len()
    );
    let machine = Machine {
        qemu: &qemu,
        kernel: &kernel.join("boot").join(format!("vmlinuz-{release}")),
        initrd: &initrd,
        disk: &machine::ensure_disk(&cache)?,
        memory_mib: options.memory_mib,
        logs: &cache.join("logs"),
        seconds_max: options.seconds_max,
        systemd: options.systemd,
        selinux: options.selinux,
    };
    if options.shell {
        return machine.shell().map(|()| Run { cases: Vec::new(), passed: true });
    }
    let mut report = Report::new(&jobs, options.verbose);
    let ended = machine.run(&mut report);
    if let Err(error) = &ended {
        eprintln!("error: {error}");
    }
    println!("{}", report.summary());
    if let Ok(times) = &ended {
        println!(
            "vm: boot {:.1} s, all {:.1} s; console in {}",
            times.boot.as_secs_f64(),
            times.whole.as_secs_f64(),
            machine.logs.join("console.log").display()
        );
    }
    let passed = ended.is_ok() && report.passed();
    Ok(Run { cases: report.cases, passed })
}

/// Turns what was asked for into jobs, and adds the programs they need.
fn add_tests(tree: &mut Tree, workspace: &Path, options: &Options) -> Result<Vec<Job>> {
    let mut exports =
        "export HAKO_RUNC_BIN=/usr/local/bin/hako-runc HAKO_TEST_JOBS=2 TMPDIR=/var/tmp\n"
            .to_owned();
    let built = match options.runtime.as_deref() {
        Some(name) if !name.contains('/') => {
            exports.push_str(&format!("export HAKO_TEST_RUNTIME={}\n", quote(name)));
            None
        }
        Some(path) => Some(path.into()),
        None => Some(programs::program(workspace, "hako-runc")?),
    };
    if let Some(runtime) = built {
        guest::add_program(tree, Path::new("/usr/local/bin/hako-runc"), &runtime)?;
    }
    let drives_engine = |wanted: &Wanted| matches!(wanted, Wanted::Test(name) if ENGINE_TESTS.contains(&name.as_str()));
    if options.wanted.iter().any(drives_engine) {
        exports.push_str("export HAKO_BIN=/usr/local/bin/hako\n");
        let data = std::env::var_os("HAKO_TEST_DATA")
            .map_or_else(|| workspace.join("../shared/data"), PathBuf::from);
        if let Ok(data) = data.canonicalize() {
            tree.copy(&data, &data)?;
            exports.push_str(&format!(
                "export HAKO_TEST_DATA={}\n",
                quote(&data.display().to_string())
            ));
        }
        guest::add_program(
            tree,
            Path::new("/usr/local/bin/hako"),
            &programs::program(workspace, "hako")?,
        )?;
    }
    for (name, value) in &options.environment {
        exports.push_str(&format!("export {name}={}\n", quote(value)));
    }
    let mut jobs = Vec::new();
    let test =
        |tree: &mut Tree, name: &str, path: &Path, dir: &Path, rows: &[String]| -> Result<Job> {
            guest::add_program(tree, path, path)?;
            tree.directory(dir);
            let mut script = exports.clone();
            script.push_str(&format!("cd {}\n", quote(&dir.display().to_string())));
            script.push_str(&format!(
                "exec {} --test-threads=1 --show-output",
                quote(&path.display().to_string())
            ));
            if !rows.is_empty() {
                script.push_str(" --exact");
            }
            for filter in options.filters.iter().chain(rows) {
                script.push_str(&format!(" {}", quote(filter)));
            }
            script.push('\n');
            Ok(Job {
                name: name.to_owned(),
                kind: Kind::Tests,
                script,
                seconds_max: options.seconds_max,
            })
        };
    for wanted in &options.wanted {
        match wanted {
            Wanted::Program(path) => {
                let path = path.canonicalize().at("find", path)?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let dir = path.parent().unwrap_or(Path::new("/"));
                jobs.push(test(tree, &name, &path, dir, &[])?);
            }
            Wanted::Test(what) | Wanted::Rows(what, _) => {
                let rows = match wanted {
                    Wanted::Rows(_, rows) => rows.as_slice(),
                    _ => &[],
                };
                let built = programs::tests(workspace, what)?;
                for program in &built.programs {
                    guest::add_program(tree, program, program)?;
                }
                for program in &built.tests {
                    let (path, dir) = (&program.path, &program.package_dir);
                    jobs.push(test(tree, &program.name, path, dir, rows)?);
                }
            }
            Wanted::Command(line) => jobs.push(Job {
                name: line.clone(),
                kind: Kind::Command,
                script: format!("{exports}{line}\n"),
                seconds_max: options.seconds_max,
            }),
        }
    }
    Ok(jobs)
}

/// Where this host has a program.
fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
}

/// The directory of the workspace's Cargo.toml: this program is run by cargo, from any directory in it.
fn workspace() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask
        .parent()
        .map(Path::to_owned)
        .ok_or_else(|| Error::Usage("xtask has no workspace".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Option<Options>> {
        Options::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn without_jobs_the_suite_runs() {
        let options = parse(&["--require"]).unwrap().unwrap();
        assert_eq!(options.wanted.len(), SUITE.len());
        assert!(options.require && !options.shell);
        let options = parse(&["--cmd", "true", "--test", "x", "a"]).unwrap().unwrap();
        assert!(matches!(
            &options.wanted[..],
            [Wanted::Command(_), Wanted::Test(_), Wanted::Program(_)]
        ));
        assert!(parse(&["--shell"]).unwrap().unwrap().wanted.is_empty());
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (arguments, expected) in [
            (&["--cmd"][..], "--cmd needs a value"),
            (&["--nope"], "--nope: no such option"),
            (&["--kernel", "2.4"], "known are 6.12, 6.1, 5.10"),
            (&["--memory", "lots"], "--memory lots: not a number"),
            (&["--env", "X"], "not NAME=VALUE"),
        ] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
