//! The targets, one row each: its name, where its inputs start from, what is done with them.

mod debian;
mod dockerfile;
mod documents;
mod images;
mod packages;
mod text;

/// One target.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Inputs to start from: right ones, of every shape.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Feeds one input. Panics where something does not hold.
    pub run: fn(&[u8]),
    /// Makes an input's checksums right again.
    pub mend: fn(&mut [u8]),
}

fn as_it_is(_: &mut [u8]) {}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "reference", seeds: text::references, run: text::reference, mend: as_it_is },
    Target { name: "registry-request", seeds: text::requests, run: text::request, mend: as_it_is },
    Target { name: "registry-token", seeds: text::tokens, run: text::token, mend: as_it_is },
    Target { name: "digest", seeds: text::digests, run: text::digest, mend: as_it_is },
    Target { name: "flags", seeds: text::flag_values, run: text::flags, mend: as_it_is },
    Target { name: "users", seeds: text::user_files, run: text::users, mend: as_it_is },
    Target {
        name: "image-documents",
        seeds: documents::images,
        run: documents::image,
        mend: as_it_is,
    },
    Target {
        name: "config-json",
        seeds: documents::configs,
        run: documents::config,
        mend: as_it_is,
    },
    Target { name: "seccomp", seeds: documents::profiles, run: documents::profile, mend: as_it_is },
    Target {
        name: "attach-frames",
        seeds: documents::frames,
        run: documents::frame,
        mend: as_it_is,
    },
    Target { name: "d-bus", seeds: documents::messages, run: documents::message, mend: as_it_is },
    Target { name: "registry", seeds: text::answers, run: text::answer, mend: as_it_is },
    Target { name: "deb-words", seeds: debian::texts, run: debian::words, mend: as_it_is },
    Target { name: "deb", seeds: debian::packages, run: debian::package, mend: as_it_is },
    Target { name: "openpgp", seeds: debian::signatures, run: debian::signed, mend: as_it_is },
    Target { name: "tar", seeds: images::tars, run: images::tar, mend: crate::mutate::mend_tar },
    Target {
        name: "compression",
        seeds: images::compressed,
        run: images::decompress,
        mend: as_it_is,
    },
    Target {
        name: "layer",
        seeds: images::tars,
        run: images::layer,
        mend: crate::mutate::mend_tar,
    },
    Target {
        name: "index",
        seeds: images::tars,
        run: images::index,
        mend: crate::mutate::mend_tar,
    },
    Target { name: "erofs", seeds: images::indexes, run: images::erofs, mend: as_it_is },
    Target {
        name: "archive",
        seeds: images::archives,
        run: images::archive,
        mend: crate::mutate::mend_tar,
    },
    Target {
        name: "assemble",
        seeds: images::tars,
        run: packages::assemble,
        mend: crate::mutate::mend_tar,
    },
    Target { name: "dockerfile", seeds: dockerfile::files, run: dockerfile::file, mend: as_it_is },
    Target {
        name: "dockerfile-words",
        seeds: dockerfile::words,
        run: dockerfile::word,
        mend: as_it_is,
    },
    Target {
        name: "dockerignore",
        seeds: dockerfile::ignores,
        run: dockerfile::ignore,
        mend: as_it_is,
    },
];
