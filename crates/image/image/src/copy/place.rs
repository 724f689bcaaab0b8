//! Places of images, as people write them.

use std::{fmt, path::PathBuf, str::FromStr};

use hako_oci::Reference;

use crate::Error;

/// A place where an image is or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a registry; a tag or a digest, `latest` where none was written.
    Registry(Reference),
    /// In an OCI layout directory, under this name.
    Layout(PathBuf, Option<String>),
    /// In a tar of such a directory.
    LayoutArchive(PathBuf, Option<String>),
    /// In an archive for `docker load`.
    DockerArchive(PathBuf, Option<Reference>),
    /// In a directory of containers/image: `manifest.json`, and blobs by their digits.
    Directory(PathBuf),
    /// In the store.
    Store(String),
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Place, Error> {
        let file = |rest: &str| match rest.split_once(':') {
            Some((path, name)) if !name.is_empty() => (path.into(), Some(name.to_owned())),
            Some((path, _)) => (path.into(), None),
            None => (rest.into(), None),
        };
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Place::Registry(rest.parse::<Reference>()?.with_default_tag()));
        }
        let (transport, rest) = text.split_once(':').unwrap_or(("", text));
        let place = match transport {
            "oci" => {
                let (path, name) = file(rest);
                Place::Layout(path, name)
            }
            "oci-archive" => {
                let (path, name) = file(rest);
                Place::LayoutArchive(path, name)
            }
            "docker-archive" => {
                let (path, name) = file(rest);
                let name = name.map(|name| name.parse::<Reference>()).transpose()?;
                Place::DockerArchive(path, name.map(Reference::with_default_tag))
            }
            "dir" => Place::Directory(rest.into()),
            "containers-storage" | "docker-daemon" | "ostree" | "sif" => {
                return Err(Error::Transport(transport.into()));
            }
            _ => return Ok(Place::Store(text.into())),
        };
        match &place {
            Place::Layout(path, _)
            | Place::LayoutArchive(path, _)
            | Place::DockerArchive(path, _)
            | Place::Directory(path)
                if path.as_os_str().is_empty() =>
            {
                Err(Error::Transport(text.into()))
            }
            _ => Ok(place),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file =
            |f: &mut fmt::Formatter<'_>, kind: &str, path: &PathBuf, name: Option<String>| {
                let name = name.map(|name| format!(":{name}")).unwrap_or_default();
                write!(f, "{kind}:{}{name}", path.display())
            };
        match self {
            Place::Registry(name) => write!(f, "docker://{name}"),
            Place::Layout(path, name) => file(f, "oci", path, name.clone()),
            Place::LayoutArchive(path, name) => file(f, "oci-archive", path, name.clone()),
            Place::DockerArchive(path, name) => {
                file(f, "docker-archive", path, name.as_ref().map(Reference::familiar))
            }
            Place::Directory(path) => file(f, "dir", path, None),
            Place::Store(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let cases = [
            ("docker://alpine", Ok("docker://docker.io/library/alpine:latest")),
            ("docker://localhost:5000/a@sha256:x", Err("invalid")),
            ("oci:dir", Ok("oci:dir")),
            ("oci:/a/b:v1.0", Ok("oci:/a/b:v1.0")),
            ("oci:", Err("oci:")),
            ("oci-archive:a.tar:x", Ok("oci-archive:a.tar:x")),
            ("docker-archive:a.tar:app:1", Ok("docker-archive:a.tar:app:1")),
            ("docker-archive:a.tar:UP", Err("lowercase")),
            ("dir:/x", Ok("dir:/x")),
            ("docker-daemon:x", Err("docker-daemon")),
            ("alpine:3.10", Ok("alpine:3.10")),
        ];
        for (text, want) in cases {
            match (text.parse::<Place>(), want) {
                (Ok(place), Ok(want)) => assert_eq!(place.to_string(), want),
                (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
                (got, want) => panic!("{text}: {got:?}, want {want:?}"),
            }
        }
    }
}
