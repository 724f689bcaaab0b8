//! The packages that the tests are about, and the archive that has them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use hako_tests::{
    command::Output,
    debian::{Key, Mirror, Suite},
    install::Hako,
    skip,
};

/// What is asked for in the tests.
const WANTED: &[&str] = &[
    "apt",
    "base-files",
    "base-passwd",
    "ca-certificates",
    "netbase",
    "nginx",
    "nodejs",
    "openssl",
    "python3",
    "redis-server",
    "tzdata",
    "usr-is-merged",
];
/// More is not fetched, whatever a distribution's packages need.
const BYTES_MAX: u64 = 100_000_000;
/// The suite's name in the archive.
pub(crate) const SUITE: &str = "test";

fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages")
}

/// Fetches what is missing. What goes wrong is told to the tests, which skip.
pub(crate) fn fetch() {
    let why = place().join("why");
    let fetched = fs::create_dir_all(place()).map_err(|e| e.to_string()).and_then(|()| try_fetch());
    match fetched {
        Ok(()) => fs::remove_file(&why).ok(),
        Err(text) => fs::write(&why, text).ok(),
    };
}

fn try_fetch() -> Result<(), String> {
    let release = fs::read_to_string("/etc/os-release").map_err(|e| format!("os-release: {e}"))?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.ok_or("this is no Debian")?;
    let empty = place().join("status");
    fs::write(&empty, "").map_err(|e| format!("{}: {e}", empty.display()))?;
    let status = format!("Dir::State::status={}", empty.display());
    let required = run(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Priority}\n"]))?;
    let required = required.lines().filter_map(|line| line.strip_suffix(" required"));
    // What would be installed where there is nothing.
    let mut apt = Command::new("apt-get");
    apt.args(["-s", "-t", codename, "--no-install-recommends", "-o", &status]);
    apt.args(["-o", "Debug::NoLocking=1", "install"]).args(WANTED).args(required);
    let planned = run(&mut apt)?;
    let mut missing = Vec::new();
    let mut current = Vec::new();
    for line in planned.lines().filter_map(|line| line.strip_prefix("Inst ")) {
        let mut words = line.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let version = version.trim_start_matches('(');
        let file = format!("{name}_{}_", version.replace(':', "-"));
        current.push(file.clone());
        if !files().iter().any(|path| starts_with(path, &file)) {
            missing.push(format!("{name}={version}"));
        }
    }
    // Older versions of the last run.
    for path in files() {
        if !current.iter().any(|start| starts_with(&path, start)) {
            fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut uris = Command::new("apt-get");
    let sizes = run(uris.args(["--print-uris", "download"]).args(&missing))?;
    let sizes = sizes.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok());
    let bytes: u64 = sizes.sum();
    if bytes > BYTES_MAX {
        return Err(format!("apt would fetch {bytes} bytes"));
    }
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "APT::Sandbox::User=", "download"]).args(missing);
    run(apt.current_dir(place()))?;
    // What apt writes for a colon would have to be quoted again in an address.
    for path in files() {
        let plain = PathBuf::from(path.to_string_lossy().replace("%3a", "-"));
        fs::rename(&path, plain).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn starts_with(path: &Path, start: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(place()).map(|all| all.flatten().map(|entry| entry.path()));
    let is_deb = |path: &PathBuf| path.extension().is_some_and(|e| e == "deb");
    let mut files: Vec<PathBuf> = entries.into_iter().flatten().filter(is_deb).collect();
    files.sort();
    files
}

/// The archive of all of them, one for the whole run.
pub(crate) fn mirror() -> &'static Mirror {
    static MIRROR: OnceLock<Mirror> = OnceLock::new();
    if let Ok(why) = fs::read_to_string(place().join("why")) {
        skip!("no packages: {why}");
    }
    MIRROR.get_or_init(|| Mirror::start(Suite::new(SUITE).with_files(&files()).files(&Key::new(1))))
}

/// Words that name an archive, and whom to believe.
pub(crate) fn source(hako: &Hako, mirror: &Mirror) -> Vec<String> {
    let keyring = hako.place().join("key.gpg");
    fs::write(&keyring, Key::new(1).keyring()).expect("write");
    let words =
        ["--suite", SUITE, "--mirror", &mirror.uri(), "--keyring", &keyring.to_string_lossy()];
    words.map(str::to_owned).to_vec()
}

/// `hako image from-packages`, of the archive of all packages.
pub(crate) fn make(hako: &Hako, words: &[&str]) -> Output {
    make_of(hako, mirror(), words)
}

/// The same, of another archive.
pub(crate) fn make_of(hako: &Hako, mirror: &Mirror, words: &[&str]) -> Output {
    let source = source(hako, mirror);
    let mut all = vec!["image", "from-packages"];
    all.extend(source.iter().map(String::as_str));
    all.extend(words);
    hako.call(&all)
}
