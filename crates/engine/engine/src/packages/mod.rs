//! Images of packages: `hako image from-packages`, and names as `deb:bookworm/python3`.
//!
//! ```text
//! wanted ── select ──> Selection (lock file) ── fetch ──> .debs ── hako-assemble ──> layers
//!                              minbase: + what maintainer scripts write in a container
//! ```
//!
//! The same selection gives the same image, whoever makes it, where and when.

mod config;
mod configure;
mod name;
mod source;
mod variant;

pub(crate) use self::name::stored as stored_name;

use std::{
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

use hako_assemble::{Assembly, Style, Unpacked};
use hako_content::Lease;
use hako_deb::{Selection, Wanted};
use hako_image::NewImage;
use hako_oci::{Descriptor, Digest, Platform, Reference, image::History, media_type};
use hako_snapshot::{Layer, Snapshotter as _};

pub use self::{
    config::ConfigChanges,
    name::{NameError, PackagesName},
    source::Sources,
    variant::{VARIANTS, Variant, VariantError},
};
use crate::{Engine, Result};

/// The longest layer that is made here.
const LAYER_BYTES_MAX: u64 = 1 << 40;
const BUFFER_BYTES: usize = 256 << 10;

/// An image that is to be made of packages.
#[derive(Debug, Clone)]
pub struct PackagesRequest {
    /// As `bookworm`.
    pub suite: String,
    /// What is asked for.
    pub include: Vec<Wanted>,
    /// What kind of image.
    pub variant: Variant,
    /// Whether packages that others recommend are taken as well.
    pub recommends: bool,
    /// What it runs on; this machine where absent.
    pub platform: Option<Platform>,
    /// The names that it gets.
    pub names: Vec<Reference>,
    /// Its configuration, beyond what goes with the variant.
    pub config: ConfigChanges,
    /// A file that says which packages exactly. Where it is there it decides; where it is not, it
    /// is written.
    pub lock: Option<PathBuf>,
    /// Whether the lock file must be there.
    pub locked: bool,
    /// Where packages come from.
    pub sources: Sources,
    /// What no file is younger than, in seconds since 1970.
    pub date_max: Option<i64>,
}

/// An image that was made of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeOfPackages {
    /// Its ID.
    pub id: Digest,
    /// How many packages are in it.
    pub packages: usize,
    /// Names that it took from other images.
    pub renamed: Vec<(Reference, Digest)>,
}

/// What is being done.
#[derive(Debug, Clone, Copy)]
pub enum PackagesStep<'a> {
    /// It is found out which packages these are.
    Resolving,
    /// Packages are fetched: how many, and how many bytes in all.
    Fetching(usize, u64),
    /// So many more bytes of packages are here.
    Fetched(u64),
    /// Packages are unpacked: how many.
    Unpacking(usize),
    /// One more package is unpacked.
    Unpacked,
    /// A layer is written: what it is called, and what it is.
    Layer(&'a str, &'a Descriptor),
    /// Maintainer scripts run.
    Configuring,
}

/// Is told what is being done; by several threads at once.
pub type PackagesWatch<'a> = dyn Fn(PackagesStep<'_>) + Sync + 'a;

/// Why an image could not be made of packages.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// Packages cannot be found, fetched or verified.
    #[error(transparent)]
    Deb(#[from] hako_deb::Error),
    /// Packages cannot be put together.
    #[error(transparent)]
    Assemble(#[from] hako_assemble::Error),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A suite that cannot be one.
    #[error("{0:?} is no suite's name")]
    Suite(String),
    /// The lock file must be there.
    #[error("lock file {}: {source} (--locked)", path.display())]
    NoLock {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The lock file is of something else.
    #[error("lock file {}: it is for {found}, not for {wanted}: remove it, or name another", path.display())]
    OtherLock {
        /// The file.
        path: PathBuf,
        /// What is asked for.
        wanted: String,
        /// What it is for.
        found: String,
    },
    /// Scripts run in a container, which runs on this machine only.
    #[error("cannot configure packages for {wanted} on {host}: use --variant distroless")]
    Foreign {
        /// What was asked for.
        wanted: Box<Platform>,
        /// What this machine is.
        host: Box<Platform>,
    },
    /// Maintainer scripts failed.
    #[error("configuring packages failed with status {status}:\n{output}")]
    Configure {
        /// The exit status.
        status: i32,
        /// The end of what they printed.
        output: String,
    },
}

impl Engine {
    /// Makes an image of packages.
    pub fn from_packages(
        &self,
        request: &PackagesRequest,
        watch: &PackagesWatch<'_>,
    ) -> Result<MadeOfPackages> {
        self.needs_root("from-packages")?;
        if !name::is_suite(&request.suite) {
            return Err(PackagesError::Suite(request.suite.clone()).into());
        }
        let (host, wanted) = (Platform::host(), request.platform.clone());
        if let Some(wanted) = wanted.filter(|wanted| !host.matches(wanted))
            && request.variant.style() == Style::Dpkg
        {
            let (wanted, host) = (Box::new(wanted), Box::new(host));
            return Err(PackagesError::Foreign { wanted, host }.into());
        }
        self.images()?.sweep()?;
        let (selection, debs) = self.find_packages(request, watch)?;
        self.image_of(request, &selection, &debs, watch)
    }

    /// The image of a name like `deb:bookworm/python3`: what was made of it before, or, where there
    /// is nothing yet or it is to be `fresh`, what is made of it now. Gives the name under which it
    /// is kept.
    pub fn image_of_packages(
        &self,
        name: &PackagesName,
        platform: Option<Platform>,
        fresh: bool,
        watch: &PackagesWatch<'_>,
    ) -> Result<Reference> {
        let reference = name.reference();
        if !fresh {
            match self.image(&reference.to_string()) {
                Err(e) if e.is_no_image() => {}
                found => {
                    let (found, wanted) = (found?.platform(), platform.as_ref());
                    if wanted.is_none_or(|wanted| found.matches(wanted)) {
                        return Ok(reference);
                    }
                }
            }
        }
        let variant = name.variant.unwrap_or_else(|| Variant::default_for(&name.include));
        let request = PackagesRequest {
            suite: name.suite.clone(),
            include: name.include.clone(),
            variant,
            recommends: false,
            platform,
            names: vec![reference.clone()],
            config: ConfigChanges::default(),
            lock: None,
            locked: false,
            sources: Sources::default(),
            date_max: None,
        };
        self.from_packages(&request, watch)?;
        Ok(reference)
    }

    /// Makes an image of packages that are at hand, in the selection's order.
    fn image_of(
        &self,
        request: &PackagesRequest,
        selection: &Selection,
        debs: &[PathBuf],
        watch: &PackagesWatch<'_>,
    ) -> Result<MadeOfPackages> {
        watch(PackagesStep::Unpacking(debs.len()));
        let scratch = self.places.root.join("content/ingest");
        let unpacked = |_| watch(PackagesStep::Unpacked);
        let packages = hako_assemble::unpack(debs, &scratch, &unpacked)?;
        let requires: Vec<Vec<usize>> =
            selection.packages.iter().map(|package| package.requires.clone()).collect();
        let base = request.variant.base(selection);
        let style = request.variant.style();
        let assembly = Assembly::new(packages, &requires, &base, style, request.date_max)?;

        let lease = self.images()?.content().lease()?;
        let _hold = self.snapshots()?.hold()?;
        let mut parts = Parts::default();
        let created = config::rfc3339(assembly.date());
        for (number, group) in assembly.groups().iter().enumerate() {
            let layer = write(&lease, |out| Ok(assembly.write(number, out)?))?;
            watch(PackagesStep::Layer(&group.name, &layer));
            let packages = group.packages.iter().map(|&n| &assembly.packages()[n]);
            parts.push(layer, config::history(&created, &group.name, packages));
        }
        if style == Style::Dpkg {
            watch(PackagesStep::Configuring);
            self.unpack_parts(&parts)?;
            let step = configure::history(&created, selection);
            let config = config::config(request, selection, &created, &parts)?;
            let layer = self.configure(&lease, &parts, config, selection, &assembly)?;
            watch(PackagesStep::Layer("configuration", &layer));
            parts.push(layer, step);
        }
        self.unpack_parts(&parts)?;
        let config = config::config(request, selection, &created, &parts)?;
        let names = request.names.clone();
        let made =
            self.images()?.publish(lease, NewImage { config, layers: parts.layers, names })?;
        Ok(MadeOfPackages { id: made.id, packages: debs.len(), renamed: made.renamed })
    }

    /// Unpacks layers that are in the store.
    fn unpack_parts(&self, parts: &Parts) -> Result<()> {
        let content = self.images()?.content();
        let layers: Vec<Layer<'_>> = parts
            .layers
            .iter()
            .map(|layer| {
                let open = || match content.blob(&layer.digest) {
                    Ok(blob) => Ok(Box::new(blob) as Box<dyn io::Read + Send>),
                    Err(e) => Err(io::Error::other(e)),
                };
                // The digest of a tar that is not compressed is its diff ID.
                let stored = || Ok(Some(content.blob_path(&layer.digest)));
                Layer::new(layer.digest.clone(), Box::new(open)).stored(Box::new(stored))
            })
            .collect();
        self.snapshots()?.ensure_layers(&layers)?;
        Ok(())
    }
}

/// What an image consists of, so far.
#[derive(Debug, Default)]
struct Parts {
    layers: Vec<Descriptor>,
    history: Vec<History>,
}

impl Parts {
    fn push(&mut self, layer: Descriptor, step: History) {
        self.layers.push(layer);
        self.history.push(step);
    }
}

/// Writes a layer into the store. It is not compressed: that is for those who send it.
fn write(
    lease: &Lease,
    write: impl FnOnce(&mut BufWriter<hako_content::Ingest<'_>>) -> Result<()>,
) -> Result<Descriptor> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, lease.ingest(LAYER_BYTES_MAX)?);
    write(&mut out)?;
    out.flush().map_err(hako_content::Error::Source)?;
    let ingest = out.into_inner().map_err(|e| hako_content::Error::Source(e.into_error()))?;
    Ok(ingest.commit(media_type::OCI_LAYER)?)
}

/// As history tells it: `python3 3.11.2-1+b1`.
fn shown(package: &Unpacked) -> String {
    format!("{} {}", package.name(), package.control().version())
}
