//! `hako-fuzz [--seconds N] [--seed N] [--list] [TARGET...]`: fuzzing on the stable compiler.
//!
//! Each target runs in a process of its own with bounded memory. A panic is caught and its input is
//! kept in `fuzz/artifacts/<target>/`; a process that dies or hangs (the stack, memory, an endless
//! loop) is run again from the same seed, writing down each input first. Inputs there and in
//! `fuzz/corpus/<target>/` are tried before any mutation, so what was found once stays found.
//!
//! ```text
//! test fuzz_<target> ... ok (N inputs)
//! fuzz: N passed, N failed, N skipped
//! ```

#![forbid(unsafe_code)]

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use hako_fuzz::{
    mutate::{Random, mutate},
    targets::{TARGETS, Target},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No input that is found by chance needs more.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Address space of a target's process.
const MEMORY_BYTES_MAX: u64 = 3 << 30;

/// An input that takes longer hangs.
const HANG: Duration = Duration::from_secs(30);

struct Options {
    seconds: u64,
    seed: u64,
    targets: Vec<String>,
    list: bool,
    /// Set for the process of one target: the file that tells the input being tried.
    inside: bool,
    trace: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut options = Self {
            seconds: 60,
            seed: now.map(|now| now.as_nanos() as u64).unwrap_or(1),
            targets: Vec::new(),
            list: false,
            inside: false,
            trace: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            let number =
                |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
            match word.as_str() {
                "--seconds" => options.seconds = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--list" => options.list = true,
                "--inside" => options.inside = true,
                "--trace" => options.trace = Some(value()?.into()),
                _ if TARGETS.iter().any(|target| target.name == word) => options.targets.push(word),
                _ => {
                    return Err(format!(
                        "{word}: no such option or target; --list names the targets"
                    ));
                }
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("hako-fuzz: {message}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        for target in TARGETS {
            println!("{}", target.name);
        }
        return ExitCode::SUCCESS;
    }
    let chosen = |target: &&Target| {
        options.targets.is_empty() || options.targets.iter().any(|name| name == target.name)
    };
    if options.inside {
        return match TARGETS.iter().find(chosen) {
            Some(target) => feed(target, &options),
            None => ExitCode::from(2),
        };
    }
    println!("seed {}", options.seed);
    let (mut passed, mut failed) = (0, 0);
    for target in TARGETS.iter().filter(chosen) {
        match drive(target, &options) {
            Ok(said) => {
                passed += 1;
                println!("test fuzz_{} ... ok ({said})", target.name);
            }
            Err(said) => {
                failed += 1;
                println!("test fuzz_{} ... FAILED\nfailures:\n{said}", target.name);
            }
        }
    }
    println!("\nfuzz: {passed} passed, {failed} failed, 0 skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn folder(kind: &str, target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(kind).join(target.name)
}

/// Runs a target in a process of its own; when that dies, runs it again to learn the input.
fn drive(target: &Target, options: &Options) -> Result<String, String> {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let said = place.path().join("said");
    let traced = place.path().join("input");
    let run = |trace: bool| -> Result<(bool, String), String> {
        let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
        command.args(["--inside", target.name, "--seconds", &options.seconds.to_string()]);
        command.args(["--seed", &options.seed.to_string()]).env("TMPDIR", place.path());
        if trace {
            command.arg("--trace").arg(&traced);
        }
        let file = fs::File::create(&said).map_err(|error| error.to_string())?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|error| error.to_string())?;
        let deadline = Instant::now() + Duration::from_secs(options.seconds * 3) + HANG;
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => {
                    drop((child.kill(), child.wait()));
                    break None;
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        let text = fs::read_to_string(&said).unwrap_or_default();
        let how = status.map_or("it hangs".to_owned(), |status| status.to_string());
        Ok((status.is_some_and(|status| status.success()), format!("{}\n{how}", text.trim())))
    };
    let (success, text) = run(false)?;
    if success {
        return Ok(text.lines().next().unwrap_or("").to_owned());
    }
    if text.contains("kept as") {
        return Err(text);
    }
    // It died without a word about its input: the same again, this time noting each one down.
    let (_, again) = run(true)?;
    let input = fs::read(&traced).unwrap_or_default();
    let path = keep(target, &input).map_err(|error| error.to_string())?;
    Err(format!("{again}\nkept as {}", path.display()))
}

fn keep(target: &Target, input: &[u8]) -> std::io::Result<PathBuf> {
    let directory = folder("artifacts", target);
    fs::create_dir_all(&directory)?;
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = directory.join(format!("{hash:016x}"));
    fs::write(&path, input)?;
    Ok(path)
}

/// The process of one target: known inputs first, then mutations until the time is over.
fn feed(target: &Target, options: &Options) -> ExitCode {
    let limit =
        Rlimit { current: Some(MEMORY_BYTES_MAX), maximum: getrlimit(Resource::As).maximum };
    if let Err(error) = setrlimit(Resource::As, limit) {
        eprintln!("setrlimit(AS): {error}");
        return ExitCode::FAILURE;
    }
    let mut seeds = (target.seeds)();
    for kind in ["corpus", "artifacts"] {
        let entries = fs::read_dir(folder(kind, target)).into_iter().flatten().flatten();
        seeds.extend(entries.filter_map(|entry| fs::read(entry.path()).ok()));
    }
    let attempt = |input: &[u8]| -> bool {
        if let Some(path) = &options.trace
            && let Err(error) = fs::write(path, input)
        {
            eprintln!("{}: {error}", path.display());
            return false;
        }
        let begun = Instant::now();
        let panicked = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err();
        let slow = begun.elapsed() > HANG;
        if panicked || slow {
            let why = if panicked { "a panic" } else { "too slow" };
            match keep(target, input) {
                Ok(path) => println!("{why}; kept as {}", path.display()),
                Err(error) => println!("{why}; cannot keep the input: {error}"),
            }
        }
        !panicked && !slow
    };
    let mut sound = true;
    let mut count = 0_u64;
    for seed in &seeds {
        sound &= attempt(seed);
        count += 1;
    }
    let mut random = Random::new(options.seed);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while sound && Instant::now() < end {
        let mut input = mutate(&mut random, &seeds, INPUT_BYTES_MAX);
        if random.below(4) != 0 {
            (target.mend)(&mut input);
        }
        sound &= attempt(&input);
        count += 1;
    }
    println!("{count} inputs");
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
