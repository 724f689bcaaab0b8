//! Runs contestants in turns; takes wall time, processor time and memory of each run.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use hako_tests::{binary, command, sandbox};

/// One who is measured: how to make its command, and what to do after each round.
pub(crate) struct Contestant {
    name: String,
    command: Box<dyn Fn(u32) -> Command>,
    after: Box<dyn Fn(u32)>,
}

impl Contestant {
    /// One that leaves nothing to undo.
    pub(crate) fn new(name: &str, command: impl Fn(u32) -> Command + 'static) -> Self {
        Self { name: name.to_owned(), command: Box::new(command), after: Box::new(|_| ()) }
    }

    /// The same with something to undo after each round, which is not measured.
    pub(crate) fn after(mut self, after: impl Fn(u32) + 'static) -> Self {
        self.after = Box::new(after);
        self
    }
}

/// One run of a command.
#[derive(Debug, Clone, Copy)]
struct Sample {
    wall: Duration,
    cpu: Duration,
    peak_kb: u64,
}

/// What the runs of one contestant cost.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    /// Whose it is.
    pub(crate) name: String,
    samples: Vec<Sample>,
}

impl Cost {
    /// The smallest wall time.
    pub(crate) fn wall_min(&self) -> Duration {
        self.sorted(|sample| sample.wall).first().copied().unwrap_or_default()
    }

    /// The wall time in the middle.
    pub(crate) fn wall_median(&self) -> Duration {
        middle(&self.sorted(|sample| sample.wall))
    }

    /// The smallest processor time.
    pub(crate) fn cpu_min(&self) -> Duration {
        self.sorted(|sample| sample.cpu).first().copied().unwrap_or_default()
    }

    /// The processor time in the middle.
    pub(crate) fn cpu_median(&self) -> Duration {
        middle(&self.sorted(|sample| sample.cpu))
    }

    /// The largest resident set that one of its processes had.
    pub(crate) fn peak_kb(&self) -> u64 {
        self.samples.iter().map(|sample| sample.peak_kb).max().unwrap_or(0)
    }

    /// How many runs were counted.
    pub(crate) fn rounds(&self) -> usize {
        self.samples.len()
    }

    fn sorted(&self, of: impl Fn(&Sample) -> Duration) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.samples.iter().map(of).collect();
        times.sort_unstable();
        times
    }
}

fn middle(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Leaves out who cannot do it at all, each with what it says.
pub(crate) fn qualify(contestants: Vec<Contestant>) -> (Vec<Contestant>, Vec<String>) {
    let mut able = Vec::new();
    let mut notes = Vec::new();
    for contestant in contestants {
        match once(&(contestant.command)(0)) {
            Ok(_) => {
                (contestant.after)(0);
                able.push(contestant);
            }
            Err(error) => {
                let lines: Vec<&str> = error.lines().skip(1).take(5).map(str::trim).collect();
                notes.push(format!("{} cannot: {}", contestant.name, lines.join("; ")));
            }
        }
    }
    (able, notes)
}

/// Runs every contestant `rounds` times in turns, after one round that is not counted.
pub(crate) fn take_turns(contestants: &[Contestant], rounds: u32) -> Result<Vec<Cost>, String> {
    let mut costs: Vec<Cost> = contestants
        .iter()
        .map(|contestant| Cost { name: contestant.name.clone(), samples: Vec::new() })
        .collect();
    for round in 0..=rounds {
        for (contestant, cost) in contestants.iter().zip(&mut costs) {
            let sample = once(&(contestant.command)(round))
                .map_err(|error| format!("{}: {error}", contestant.name))?;
            (contestant.after)(round);
            if round > 0 {
                cost.samples.push(sample);
            }
        }
    }
    Ok(costs)
}

/// Runs a command once, under `measure.c`.
fn once(inner: &Command) -> Result<Sample, String> {
    let result = sandbox::shared().join("measured");
    let mut measure = Command::new(tool("measure")?);
    measure.arg(&result).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => measure.env(name, value),
            None => measure.env_remove(name),
        };
    }
    if let Some(directory) = inner.get_current_dir() {
        measure.current_dir(directory);
    }
    let errors = sandbox::shared().join("errors");
    let file = fs::File::create(&errors).map_err(|error| error.to_string())?;
    let status = measure.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).status();
    let status = status.map_err(|error| error.to_string())?;
    if !status.success() {
        let said = fs::read_to_string(&errors).unwrap_or_default();
        return Err(format!("$ {}\n{status}: {}", command::shown(inner), said.trim()));
    }
    let line = fs::read_to_string(&result).map_err(|error| error.to_string())?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [wall, cpu, peak_kb, _status] => Ok(Sample {
            wall: Duration::from_nanos(wall),
            cpu: Duration::from_micros(cpu),
            peak_kb,
        }),
        _ => Err(format!("measure wrote {line:?}")),
    }
}

/// A C program of this directory, compiled once in a run.
pub(crate) fn tool(name: &'static str) -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = BUILT
        .get_or_init(|| {
            let directory = sandbox::shared().join("tools");
            fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
            for name in ["measure", "floor", "readall"] {
                let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.c"));
                let mut gcc = Command::new(binary::tool("gcc"));
                gcc.args(["-O2", "-static", "-o"]).arg(directory.join(name)).arg(source);
                let output = gcc.output().map_err(|error| format!("gcc: {error}"))?;
                if !output.status.success() {
                    return Err(format!("gcc: {}", String::from_utf8_lossy(&output.stderr)));
                }
            }
            Ok(directory)
        })
        .clone()?;
    Ok(directory.join(name))
}
