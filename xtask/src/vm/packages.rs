//! Debian packages, downloaded and unpacked into a cache directory: nothing is installed into the system.
//!
//! ```text
//! CACHE/apt/<release>/             sources.list and lists of our own
//! CACHE/packages/<name>_<suite>/   an unpacked package, complete (renamed into place)
//! ```
//!
//! apt itself checks the archive's signatures, with Debian's keyring of this host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{At, Error, Result, output};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where this host's own sources name no other.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Suites that are resolved together. An old release is a world of its own: nothing else hangs on its mirror.
const RELEASES: &[&[&str]] = &[&["bookworm", "bookworm-backports"], &["bullseye"]];

pub(crate) struct Packages {
    dir: PathBuf,
}

impl Packages {
    pub(crate) fn open(cache: &Path) -> Self {
        Self { dir: cache.to_owned() }
    }

    /// The newest version of a package in a suite, unpacked, without what it depends on.
    pub(crate) fn package(&self, name: &str, suite: &str) -> Result<PathBuf> {
        self.ensure(name, suite, |archives| {
            let spec = format!("{name}/{suite}");
            output(self.apt("apt-get", suite)?.arg("download").arg(spec).current_dir(archives))?;
            Ok(())
        })
    }

    /// A package with all it depends on that this host has not installed, unpacked into one directory.
    pub(crate) fn package_and_needed(&self, name: &str, suite: &str) -> Result<PathBuf> {
        self.ensure(&format!("{name}-and-needed"), suite, |archives| {
            self.fetch(archives, &[name], suite, &[])
        })
    }

    /// Downloads what installing these would need.
    fn fetch(
        &self,
        archives: &Path,
        packages: &[&str],
        suite: &str,
        settings: &[&str],
    ) -> Result<()> {
        let partial = archives.join("partial");
        fs::create_dir_all(&partial).at("mkdir", &partial)?;
        let mut apt = self.apt("apt-get", suite)?;
        apt.args([
            "install",
            "--yes",
            "--download-only",
            "--no-install-recommends",
            "--target-release",
            suite,
        ]);
        apt.args(["-o", &format!("Dir::Cache::archives={}", archives.display())]);
        for setting in settings {
            apt.args(["-o", setting]);
        }
        output(apt.args(packages))?;
        Ok(())
    }

    /// Packages with all they depend on, whatever this host has: a root file system called `name`. Unpacked only:
    /// no maintainer script runs.
    pub(crate) fn root(&self, name: &str, packages: &[&str], suite: &str) -> Result<PathBuf> {
        self.ensure(name, suite, |archives| {
            let nothing = archives.join("status");
            fs::write(&nothing, "").at("write", &nothing)?;
            self.fetch(
                archives,
                packages,
                suite,
                &[&format!("Dir::State::status={}", nothing.display())],
            )
        })
    }

    /// The package that a meta-package stands for: its first dependency whose name starts so.
    pub(crate) fn behind(&self, meta: &str, suite: &str, prefix: &str) -> Result<String> {
        // Remembered, so that a warm cache needs no network and always means the same kernel.
        let note = self.dir.join(format!("{meta}.{suite}"));
        if let Ok(name) = fs::read_to_string(&note) {
            return Ok(name);
        }
        self.update(suite)?;
        let text = output(self.apt("apt-cache", suite)?.args(["show", &format!("{meta}/{suite}")]))
            .map_err(|error| unavailable(meta, &error))?;
        let text = String::from_utf8_lossy(&text);
        let name = dependency(&text, prefix).ok_or_else(|| Error::Unavailable {
            what: meta.to_owned(),
            why: format!("{suite} has no such package that depends on {prefix}*"),
        })?;
        fs::write(&note, &name).at("write", &note)?;
        Ok(name)
    }

    fn ensure(
        &self,
        name: &str,
        suite: &str,
        get: impl Fn(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let to = self.dir.join("packages").join(format!("{name}_{suite}"));
        if to.exists() {
            return Ok(to);
        }
        self.update(suite)?;
        let staged = to.with_extension("new");
        let archives = to.with_extension("debs");
        for dir in [&staged, &archives] {
            if dir.exists() {
                fs::remove_dir_all(dir).at("remove", dir)?;
            }
            fs::create_dir_all(dir).at("mkdir", dir)?;
        }
        eprintln!("vm: downloading {name} of {suite}");
        get(&archives).map_err(|error| unavailable(name, &error))?;
        for entry in archives.read_dir().at("opendir", &archives)? {
            let archive = entry.at("readdir", &archives)?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                output(Command::new("dpkg-deb").arg("-x").args([&archive, &staged]))
                    .map_err(|error| unavailable(name, &error))?;
            }
        }
        fs::remove_dir_all(&archives).at("remove", &archives)?;
        fs::rename(&staged, &to).at("rename", &to)?;
        Ok(to)
    }

    /// Fetches a release's package lists, once per cache.
    fn update(&self, suite: &str) -> Result<()> {
        let (dir, suites) = self.release(suite)?;
        let stamp = dir.join("updated");
        if stamp.exists() {
            return Ok(());
        }
        if !Path::new(KEYRING).exists() {
            return Err(Error::Unavailable {
                what: "Debian's packages".to_owned(),
                why: format!("{KEYRING} is missing, downloads could not be verified"),
            });
        }
        for dir in ["lists/partial", "archives/partial"].map(|name| dir.join(name)) {
            fs::create_dir_all(&dir).at("mkdir", &dir)?;
        }
        let sources = dir.join("sources.list");
        let mirror = mirror();
        let lines: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .collect();
        fs::write(&sources, lines).at("write", &sources)?;
        eprintln!("vm: reading the package lists of {}", suites.join(", "));
        output(
            self.apt("apt-get", suite)?.arg("update").args(["-o", "APT::Update::Error-Mode=any"]),
        )
        .map_err(|error| unavailable("Debian's package lists", &error))?;
        fs::write(&stamp, "").at("write", &stamp)
    }

    fn release(&self, suite: &str) -> Result<(PathBuf, &'static [&'static str])> {
        let suites = RELEASES
            .iter()
            .find(|suites| suites.contains(&suite))
            .ok_or_else(|| Error::Usage(format!("{suite}: not a known suite of Debian")))?;
        Ok((self.dir.join("apt").join(suites[0]), suites))
    }

    fn apt(&self, program: &str, suite: &str) -> Result<Command> {
        let (dir, _) = self.release(suite)?;
        let mut command = Command::new(program);
        let set = [
            ("Dir::Etc::sourcelist", dir.join("sources.list").display().to_string()),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::lists", dir.join("lists").display().to_string()),
            ("Dir::Cache", dir.display().to_string()),
            ("Dir::Cache::archives", dir.join("archives").display().to_string()),
            // The cache belongs to whoever runs this; apt's own user may not be able to write there.
            ("APT::Sandbox::User", String::new()),
            ("Acquire::Retries", "2".to_owned()),
        ];
        for (key, value) in set {
            command.args(["-o", &format!("{key}={value}")]);
        }
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        Ok(command)
    }
}

/// The archive that apt takes Debian from on this host.
fn mirror() -> String {
    let words = [
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
        "Origin: Debian",
    ];
    let text = output(Command::new("apt-get").args(words)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let of_security = |line: &&str| line.ends_with("-security");
    let line = text.lines().find(|line| !of_security(line) && line.starts_with("http"));
    line.and_then(|line| line.split(' ').next()).unwrap_or(MIRROR).to_owned()
}

fn unavailable(what: &str, error: &Error) -> Error {
    Error::Unavailable { what: what.to_owned(), why: format!("cannot be downloaded: {error}") }
}

/// Finds a name in the `Depends:` field of `apt-cache show`.
fn dependency(text: &str, prefix: &str) -> Option<String> {
    let field = text.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    field
        .split([',', '|'])
        .filter_map(|alternative| alternative.split_whitespace().next())
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::dependency;

    #[test]
    fn the_real_package_behind_a_meta_package() {
        let text = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.12.95+deb12-cloud-amd64 (= 6.12.95-1)\n";
        for (text, prefix, expected) in [
            (text, "linux-image-", Some("linux-image-6.12.95+deb12-cloud-amd64")),
            ("Depends: a, b | linux-image-6", "linux-image-", Some("linux-image-6")),
            (text, "firmware-", None),
            ("Package: x\n", "linux-image-", None),
        ] {
            assert_eq!(dependency(text, prefix).as_deref(), expected);
        }
    }
}
