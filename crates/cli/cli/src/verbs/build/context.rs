//! What a build is given: a Dockerfile, and the directory beside it.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use hako_dockerfile::{
    render,
    source::{Lines, Source},
};

use crate::failure::Failure;

/// More than this is no Dockerfile.
const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;

/// A Dockerfile and its context.
pub(super) struct Given {
    pub(super) dockerfile: Vec<u8>,
    pub(super) context: Option<PathBuf>,
    pub(super) ignore: Vec<u8>,
    name: String,
}

impl Given {
    /// Reads what `PATH` and `-f` name.
    pub(super) fn read(path: &str, file: Option<&Path>) -> Result<Given, Failure> {
        let is_stdin = |path: &Path| path == Path::new("-");
        if path == "-" {
            if file.is_some_and(is_stdin) {
                return Err(Failure::new(
                    "invalid argument: can't use stdin for both build context and dockerfile",
                ));
            }
            let dockerfile = bounded(io::stdin(), Path::new("stdin"))?;
            if is_archive(&dockerfile) {
                return Err(Failure::new(
                    "a context as a tar on stdin is not supported yet: unpack it, and name the directory",
                ));
            }
            return Ok(Given { dockerfile, context: None, ignore: Vec::new(), name: "-".into() });
        }
        if ["http://", "https://", "git://", "git@", "ssh://"].iter().any(|s| path.starts_with(s)) {
            return Err(Failure::new(
                "a context of another machine is not supported yet: fetch it, and name the directory",
            ));
        }
        let dir = PathBuf::from(path);
        if !dir.is_dir() {
            return Err(Failure::new(format!(
                "unable to prepare context: path {path:?} not found"
            )));
        }
        let (dockerfile, name) = match file {
            Some(file) if is_stdin(file) => (bounded(io::stdin(), file)?, None),
            // What the user names may be a pipe.
            Some(file) => (open(file, |path| fs::File::open(path))?, Some(file.to_owned())),
            None => {
                let file = dir.join("Dockerfile");
                (open(&file, regular)?, Some(file))
            }
        };
        let own = name.as_ref().map(|name| {
            let mut own = name.clone().into_os_string();
            own.push(".dockerignore");
            PathBuf::from(own)
        });
        let mut ignore = Vec::new();
        for path in own.into_iter().chain([dir.join(".dockerignore")]) {
            match regular(&path) {
                Ok(file) => {
                    ignore = bounded(file, &path)?;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Failure::new(format!("read {}: {e}", path.display()))),
            }
        }
        let name = name.as_deref().and_then(Path::file_name);
        let name = name.map_or("Dockerfile".into(), |name| name.to_string_lossy().into_owned());
        Ok(Given { dockerfile, context: Some(dir), ignore, name })
    }

    /// The lines of an instruction, with some around them, as BuildKit shows them.
    pub(super) fn excerpt(&self, lines: Lines) -> String {
        render::excerpt(&self.source(), lines, None).trim_end().to_owned()
    }

    /// The Dockerfile with its name, to show lines of it.
    pub(super) fn source(&self) -> Source {
        Source::new(self.name.clone(), self.dockerfile.clone())
    }
}

fn open(path: &Path, open: fn(&Path) -> io::Result<fs::File>) -> Result<Vec<u8>, Failure> {
    let file = open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::new(format!(
            "failed to read dockerfile: open {}: no such file or directory",
            path.display()
        )),
        _ => Failure::new(format!("failed to read dockerfile: open {}: {e}", path.display())),
    })?;
    bounded(file, path)
}

/// Opens a file, and nothing that would make us wait or never ends.
fn regular(path: &Path) -> io::Result<fs::File> {
    const O_NONBLOCK: i32 = 0o4000;
    let file = fs::File::options().read(true).custom_flags(O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

fn bounded(reader: impl io::Read, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let failed = |e: io::Error| Failure::new(format!("read {}: {e}", path.display()));
    reader.take(DOCKERFILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > DOCKERFILE_BYTES_MAX {
        return Err(Failure::new(format!(
            "{}: a Dockerfile has at most {DOCKERFILE_BYTES_MAX} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// A tar, or what one is compressed with.
fn is_archive(bytes: &[u8]) -> bool {
    let starts = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"];
    starts.iter().any(|start| bytes.starts_with(start)) || bytes.get(257..262) == Some(b"ustar")
}
