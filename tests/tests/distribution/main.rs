//! hako as a client of registries: of one that does what a test tells it to, and of Debian's
//! docker-registry, with skopeo as another client of the same.

#![forbid(unsafe_code)]

mod artifacts;
mod auth;
mod copy;
mod hostile;
mod lists;
mod peer;
mod pull;
mod push;
mod ways;

use std::{fs, process::Command, sync::Arc};

use hako_tests::{
    archive::{Entry, tar},
    command::{self, Output},
    image::Image,
    install::Hako,
    registry::{Content, Registry, Reply, Request},
};

/// An installation whose user has no configuration but what a test gives him.
pub(crate) struct Client {
    pub hako: Hako,
}

/// Variables that would let the caller's own configuration in.
const FOREIGN: &[&str] = &[
    "DOCKER_CONFIG",
    "REGISTRY_AUTH_FILE",
    "XDG_CONFIG_HOME",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

impl Client {
    pub(crate) fn new() -> Client {
        let hako = Hako::new();
        hako.place().directory("home");
        hako.place().write("registries.conf", "");
        Client { hako }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.hako.command(words);
        for name in FOREIGN {
            command.env_remove(name);
        }
        let place = self.hako.place();
        command
            .env("HOME", place.join("home"))
            .env("XDG_RUNTIME_DIR", place.join("home"))
            .env("CONTAINERS_REGISTRIES_CONF", place.join("registries.conf"))
            .env("HAKO_REGISTRY_TIMEOUT", "2");
        command
    }

    /// Runs `hako <words>` to its end.
    #[track_caller]
    pub(crate) fn call(&self, words: &[&str]) -> Output {
        let output = command::run(&mut self.command(words));
        output.is_sane();
        output
    }

    /// Writes a file of the user's, below his home.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.hako.place().join("home").join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("our own directory");
        fs::write(path, text).expect("our own file");
    }

    /// Nothing of a failed pull is in the store.
    #[track_caller]
    pub(crate) fn has_nothing(&self) {
        assert_eq!(self.call(&["images", "-q"]).ok(), "");
        for part in ["blobs/sha256", "blobs/sha512", "ingest", "leases", "trash"] {
            let directory = self.hako.root().join("content").join(part);
            let left: Vec<_> = fs::read_dir(&directory).expect("a part of the store").collect();
            assert!(left.is_empty(), "{part}: {left:?}");
        }
    }
}

/// An image with a layer that is not compressible and larger than what one connection brings.
pub(crate) fn large() -> Image {
    let mut state = 1u64;
    let mut noise = Vec::with_capacity(600 << 10);
    for _ in 0..600 << 10 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        noise.push((state >> 56) as u8);
    }
    Image::new("large:1", vec![tar(&[Entry::file("noise", 0o644, noise)])])
}

/// A registry with `app:1`, a busybox with a compressed layer.
pub(crate) fn with_app(
    handle: impl Fn(&Content, &Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Registry, Arc<Content>) {
    let mut image = Image::busybox("app:1");
    image.gzip = true;
    serving(Content::of(&image, "app", "1"), handle)
}

/// A registry with this content; the function answers what it does not leave to it.
pub(crate) fn serving(
    content: Content,
    handle: impl Fn(&Content, &Request) -> Option<Reply> + Send + Sync + 'static,
) -> (Registry, Arc<Content>) {
    let content = Arc::new(content);
    let inner = Arc::clone(&content);
    let registry = Registry::start(move |request| {
        handle(&inner, request).unwrap_or_else(|| inner.answer(request))
    });
    (registry, content)
}

fn main() -> std::process::ExitCode {
    hako_tests::run(
        "distribution",
        &[
            ways::CASES,
            pull::CASES,
            push::CASES,
            copy::CASES,
            lists::CASES,
            artifacts::CASES,
            auth::CASES,
            hostile::CASES,
            peer::CASES,
        ],
    )
}
