//! What the flags of `run` and `create` come to.

mod table;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use hako_engine::options::{self, EnvChange, RunOptions};

pub(super) use table::{CREATE, RUN};

use crate::failure::plain;

/// What the flags of `run` and `create` say, before files that they name are read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// What shapes the container itself.
    pub(super) options: RunOptions,
    pub(super) name: Option<String>,
    pub(super) auto_remove: bool,
    pub(super) detach: bool,
    pub(super) quiet: bool,
    pub(super) attach: Vec<Stream>,
    pub(super) no_sig_proxy: bool,
    pub(super) detach_keys: Option<String>,
    pub(super) cidfile: Option<PathBuf>,
    pub(super) pull: Pull,
    pub(super) platform: Option<String>,
    pub(super) log_driver: Option<String>,
    pub(super) log_options: Vec<(String, String)>,
    /// `-e`, which wins over `--env-file` wherever it stands.
    env: Vec<EnvChange>,
    env_files: Vec<PathBuf>,
    labels: Vec<(String, String)>,
    label_files: Vec<PathBuf>,
}

/// A standard stream, for `--attach`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// `--pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pull {
    #[default]
    Missing,
    Never,
    Always,
}

impl Draft {
    /// Reads the files that flags name, and puts everything in the order of its effect.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let mut env = Vec::new();
        for path in &self.env_files {
            let changes = options::env::parse_file(&read(path)?, from_environment);
            env.extend(changes.map_err(|e| about(path, &e))?);
        }
        env.append(&mut self.env);
        self.options.env = env;
        for path in &self.label_files {
            let labels = options::env::parse_label_file(&read(path)?);
            self.options.labels.extend(labels.map_err(|e| about(path, &e))?);
        }
        self.options.labels.extend(self.labels.drain(..));
        Ok(())
    }
}

/// Longest file of variables, labels or system calls that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a file that a flag names.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|e| {
            format!("open {}: {}", path.display(), plain(&e.to_string()).to_lowercase())
        })?;
    match read as u64 > FILE_BYTES_MAX {
        true => Err(format!("{}: longer than {} MiB", path.display(), FILE_BYTES_MAX >> 20)),
        false => Ok(bytes),
    }
}

fn about(path: &std::path::Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// A variable of hako's own environment.
pub(super) fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::flag::{self, Order};

    /// The options that differ from those of no flags, as JSON; or the error.
    fn check(line: &str) -> Result<String, String> {
        let args: Vec<String> = line.split_whitespace().map(|w| w.replace('~', " ")).collect();
        let mut draft = Draft::default();
        let words = flag::parse(RUN, Order::First, &args, &mut draft).map_err(|e| e.to_string())?;
        assert_eq!(words, ["image"]);
        draft.finish()?;
        let json = |options: &RunOptions| match serde_json::to_value(options) {
            Ok(Value::Object(map)) => map,
            other => panic!("{other:?}"),
        };
        let plain = json(&RunOptions::default());
        let mut changed = json(&draft.options);
        changed.retain(|key, value| plain.get(key) != Some(value));
        Ok(Value::Object(changed).to_string())
    }

    #[test]
    fn flags_become_options() {
        let cases = [
            ("image", "{}"),
            ("-it image", r#"{"tty":true,"stdinOpen":true}"#),
            ("-it --tty=false image", r#"{"stdinOpen":true}"#),
            ("-e A=1 -eB=2 image", r#"{"env":[{"set":["A","1"]},{"set":["B","2"]}]}"#),
            ("-e HAKO_TEST_SURELY_UNSET image", r#"{"env":[{"unset":"HAKO_TEST_SURELY_UNSET"}]}"#),
            ("-w /x -u 1:2 -h box image", r#"{"workdir":"/x","user":"1:2","hostname":"box"}"#),
            ("--entrypoint= image", r#"{"entrypoint":[""]}"#),
            (
                "--stop-signal RTMIN+3 --stop-timeout -1 image",
                r#"{"stopSignal":37,"stopTimeoutSeconds":-1}"#,
            ),
            (
                "--cap-add net_raw --cap-drop ALL image",
                r#"{"capAdd":["CAP_NET_RAW"],"capDrop":["ALL"]}"#,
            ),
            (
                "--network host --pid host --uts host image",
                r#"{"network":"host","pid":"host","uts":"host"}"#,
            ),
            ("--net none image", "{}"),
            ("-l a -l b=c=d --label a=2 image", r#"{"labels":{"a":"2","b":"c=d"}}"#),
            ("--annotation x=y image", r#"{"annotations":{"x":"y"}}"#),
            ("--sysctl net.ipv4.ip_forward=1 image", r#"{"sysctls":{"net.ipv4.ip_forward":"1"}}"#),
            (
                "--add-host db:10.0.0.1 image",
                r#"{"extraHosts":[{"name":"db","address":"10.0.0.1"}]}"#,
            ),
            (
                "--shm-size 1m --init --read-only --privileged image",
                r#"{"rootfsReadonly":true,"privileged":true,"init":true,"shmBytes":1048576}"#,
            ),
        ];
        for (line, want) in cases {
            assert_eq!(check(line).as_deref(), Ok(want), "{line}");
        }
    }

    #[test]
    fn limits_of_zero_are_no_limits() {
        let limits = |line: &str| {
            let options: Value = serde_json::from_str(&check(line).unwrap()).unwrap();
            options.get("limits").cloned().unwrap_or_default()
        };
        assert!(limits("-m 0 --cpus 0 -c 0 --pids-limit 0 --blkio-weight 0 image").is_null());
        let set = limits("-m 64m --memory-swap -1 --cpus 1.5 -c 512 --pids-limit -1 image");
        assert_eq!(set["memoryBytes"], 64 << 20);
        assert_eq!(set["memorySwapBytes"], -1);
        assert_eq!(set["nanoCpus"], 1_500_000_000);
        assert_eq!(set["cpuShares"], 512);
        assert_eq!(set["pids"], -1);
    }

    #[test]
    fn wrong_values_are_refused_with_the_flag_and_the_reason() {
        let cases = [
            (
                "-m 64x image",
                r#"invalid argument "64x" for "-m, --memory" flag: invalid suffix: 'x'"#,
            ),
            ("--cap-add FLY image", r#"for "--cap-add" flag: unknown capability"#),
            ("--ulimit nofile image", r#"for "--ulimit" flag"#),
            ("--pull maybe image", "must be one of"),
            ("-a stdfoo image", "valid streams are STDIN, STDOUT and STDERR"),
            ("--stop-signal FOO image", "Invalid signal: FOO"),
            ("-v :x image", r#"for "-v, --volume" flag"#),
            (
                "--security-opt seccomp=/nonexistent/p.json image",
                "open /nonexistent/p.json: no such file or directory",
            ),
            (
                "--env-file /nonexistent/env image",
                "open /nonexistent/env: no such file or directory",
            ),
            ("--network bridge image", r#"for "--network" flag"#),
            ("-p 80:80 image", "--network host"),
            ("-P image", "--network host"),
            ("--userns=keep-id image", "not supported yet"),
            ("--userns=x image", "--userns: invalid USER mode"),
            ("--log-opt x image", "invalid log option"),
        ];
        for (line, want) in cases {
            let error = check(line).expect_err(line);
            assert!(error.contains(want), "{line}: {error}");
        }
    }

    #[test]
    fn files_come_before_flags() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        std::fs::write(&file, "# none\nA=file\nB=file\n").unwrap();
        let line = format!("-e A=flag --env-file {} image", file.display());
        let want = r#"{"env":[{"set":["A","file"]},{"set":["B","file"]},{"set":["A","flag"]}]}"#;
        assert_eq!(check(&line).unwrap(), want);
    }
}
