//! Images, as the engine adds to them: the tour image that needs no loading, and the question
//! which containers use one.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use hako_docker::image::DeleteItem;
use hako_image::{
    Artifact, Image, ImportOptions, LoadOptions, Loaded, NewArtifact, SaveOptions, Source, Summary,
    User, Users,
};
use hako_oci::{Digest, Platform, Reference};
use hako_snapshot::Chain;

use crate::{Engine, Error, Result, packages::stored_name};

/// The name of the image that hako carries inside itself.
pub const TOUR: &str = "hako:tour";
/// What tells the tour program which namespaces are the host's: `kind=id`, with commas between.
const TOUR_ENV: &str = "HAKO_HOST_NAMESPACES";
const NAMESPACES: &[&str] = &["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

impl Engine {
    /// Reads images from an archive or a layout directory into the store.
    pub fn load(&self, source: Source, options: &LoadOptions) -> Result<Vec<Loaded>> {
        self.needs_root("load")?;
        self.images()?.sweep()?;
        Ok(self.images()?.load(source, options)?)
    }

    /// Writes images as one archive.
    pub fn save(&self, words: &[String], options: &SaveOptions, out: &mut dyn Write) -> Result<()> {
        let words = words.iter().map(|word| Ok(stored_name(word)?.into_owned()));
        Ok(self.images()?.save(&words.collect::<Result<Vec<String>>>()?, options, out)?)
    }

    /// Makes an image of one tar, and gives its ID.
    pub fn import(
        &self,
        tar: Box<dyn std::io::Read + Send>,
        options: &ImportOptions,
    ) -> Result<Digest> {
        self.needs_root("import")?;
        self.images()?.sweep()?;
        Ok(self.images()?.import(tar, options)?)
    }

    /// All images, newest first.
    pub fn image_list(&self) -> Result<Vec<Summary>> {
        Ok(self.images()?.list()?)
    }

    /// The image of this name, digest, ID, or beginning of an ID, or what was made of a name like
    /// `deb:bookworm/python3`.
    pub fn image(&self, word: &str) -> Result<Image> {
        Ok(self.images()?.resolve(&stored_name(word)?)?)
    }

    /// The image for a platform among those that `word` means.
    pub fn image_for(&self, word: &str, platform: Option<&Platform>) -> Result<Image> {
        match platform {
            Some(platform) => Ok(self.images()?.resolve_for(&stored_name(word)?, platform)?),
            None => self.image(word),
        }
    }

    /// The document of `docker image inspect`.
    pub fn inspect_image(&self, image: &Image) -> Result<hako_docker::Image> {
        Ok(self.images()?.inspect(image)?)
    }

    /// Reads everything that is kept of an image again, and says what is broken.
    pub fn verify_image(&self, image: &Image) -> Result<Vec<String>> {
        Ok(self.images()?.verify(image)?)
    }

    /// How an image came to be, newest step first.
    pub fn history(&self, image: &Image) -> Result<Vec<hako_docker::image::HistoryItem>> {
        Ok(self.images()?.history(image)?)
    }

    /// Gives an image one more name.
    pub fn tag(&self, word: &str, name: &Reference) -> Result<()> {
        self.images()?.tag(&stored_name(word)?, name)?;
        Ok(())
    }

    /// Removes a name of an image, and with its last name the image, unless a container uses it.
    pub fn remove_image(&self, word: &str, force: bool) -> Result<Vec<DeleteItem>> {
        self.images()?.sweep()?;
        let users: &mut Users<'_> = &mut |id| Ok(self.users(id)?);
        Ok(self.images()?.remove(&stored_name(word)?, force, users)?)
    }

    /// Takes names from an image: those of `names`, or all.
    pub fn untag(&self, word: &str, names: &[Reference]) -> Result<Vec<Reference>> {
        Ok(self.images()?.untag(&stored_name(word)?, names)?)
    }

    /// Removes images that no container uses and that `wanted` picks, without `all` only such that
    /// have no name; says how many bytes that freed.
    pub fn prune_images(
        &self,
        all: bool,
        wanted: &dyn Fn(&Summary) -> bool,
    ) -> Result<(Vec<DeleteItem>, u64)> {
        self.images()?.sweep()?;
        let users: &mut Users<'_> = &mut |id| Ok(self.users(id)?);
        Ok(self.images()?.prune(all, wanted, users)?)
    }

    /// Makes an artifact of files, or adds to one.
    pub fn add_artifact(
        &self,
        name: &Reference,
        new: &NewArtifact,
        append: bool,
        replace: bool,
    ) -> Result<Digest> {
        self.images()?.sweep()?;
        Ok(self.images()?.add_artifact(name, new, append, replace)?)
    }

    /// All artifacts, by name.
    pub fn artifacts(&self) -> Result<Vec<Artifact>> {
        Ok(self.images()?.artifacts()?)
    }

    /// The artifact of this name or digest.
    pub fn artifact(&self, word: &str) -> Result<Artifact> {
        Ok(self.images()?.artifact(word)?)
    }

    /// Removes an artifact.
    pub fn remove_artifact(&self, word: &str) -> Result<Digest> {
        Ok(self.images()?.remove_artifact(word)?)
    }

    /// Writes the files of an artifact, or the one of this title or digest.
    pub fn extract_artifact(
        &self,
        word: &str,
        to: &Path,
        title: Option<&str>,
        digest: Option<&str>,
    ) -> Result<Vec<PathBuf>> {
        Ok(self.images()?.extract_artifact(word, to, title, digest)?)
    }

    fn users(&self, id: &Digest) -> Result<Vec<User>> {
        self.containers()
            .of_image(id)?
            .iter()
            .map(|c| Ok(User { id: c.short_id().to_owned(), running: self.monitor_lives(&c.id)? }))
            .collect()
    }

    /// Like [`Engine::image`], and knows the tour image without its having been loaded.
    pub(crate) fn image_for_run(&self, word: &str) -> Result<Image> {
        match self.image(word) {
            Err(e) if e.is_no_image() && self.is_tour(word) => {
                self.load(Source::Stream(Box::new(self.embedded.tour)), &LoadOptions::default())?;
                self.image(word)
            }
            found => found,
        }
    }

    /// Whether an image can be run without being loaded or pulled first.
    pub fn image_is_here(&self, word: &str) -> Result<bool> {
        match self.image(word) {
            Ok(_) => Ok(true),
            Err(e) if e.is_no_image() => Ok(self.is_tour(word)),
            Err(e) => Err(e),
        }
    }

    fn is_tour(&self, word: &str) -> bool {
        word == TOUR && !self.embedded.tour.is_empty()
    }

    pub(crate) fn unpack(&self, image: &Image) -> Result<Chain> {
        Ok(self.images()?.unpack(image)?)
    }

    /// The tour program shows the host's namespaces beside its own. They are no secret of its
    /// kind only: other images are not told.
    pub(crate) fn engine_env(&self, image: &Image) -> Result<Vec<String>> {
        if self.embedded.tour_id.is_empty() || image.id().to_string() != self.embedded.tour_id {
            return Ok(Vec::new());
        }
        let ids = NAMESPACES
            .iter()
            .map(|kind| {
                let path = format!("/proc/self/ns/{kind}");
                let link = std::fs::read_link(&path).map_err(Error::io("readlink", &path))?;
                // As `mnt:[4026531841]`.
                let digits = |c: char| c.is_ascii_digit();
                let id: String = link.to_string_lossy().chars().filter(|c| digits(*c)).collect();
                Ok(format!("{kind}={id}"))
            })
            .collect::<Result<Vec<String>>>()?;
        Ok(vec![format!("{TOUR_ENV}={}", ids.join(","))])
    }
}
