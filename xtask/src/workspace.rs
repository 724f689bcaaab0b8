//! Where things are: the root of the workspace, its target directory, the binaries in it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The workspace that this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds it from the place of xtask's own manifest.
    pub(crate) fn find() -> Result<Self, String> {
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().ok_or("xtask has no parent directory")?.to_path_buf();
        if !root.join("Cargo.lock").exists() {
            return Err(format!(
                "{} is not a workspace any more: build xtask again",
                root.display()
            ));
        }
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => root.join(directory),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The root of the workspace.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A place for logs and results, made if missing.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, String> {
        let directory = self.target.join("xtask").join(name);
        std::fs::create_dir_all(&directory)
            .map_err(|error| format!("mkdir({}): {error}", directory.display()))?;
        Ok(directory)
    }

    /// A binary as cargo leaves it: `profile` is the directory's name (`debug`, `release`, …).
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }

    /// hako-runc as it is shipped: what `bin/hako/build.rs` built last, to embed it.
    pub(crate) fn shipped_runtime(&self) -> Result<PathBuf, String> {
        let directory = self.target.join("embedded");
        let targets = std::fs::read_dir(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let built = targets.flatten().map(|target| target.path().join("embedded/hako-runc"));
        let newest = built.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
        newest
            .filter(|path| path.is_file())
            .ok_or_else(|| format!("no hako-runc below {}: build hako first", directory.display()))
    }

    /// `cargo` at the root, with what the tests look for in the environment.
    ///
    /// `HAKO_CARGO` names another cargo, for machines where builds go through a wrapper.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var_os("HAKO_CARGO")
            .or_else(|| env::var_os("CARGO"))
            .unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root);
        // `cargo run` sets these for xtask itself; a nested cargo must not take them for its own.
        for name in
            ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"]
        {
            command.env_remove(name);
        }
        command
    }
}
