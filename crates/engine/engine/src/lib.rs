//! Containers and images as one API: the only place where the image half and the run half meet.
//!
//! An [`Engine`] is two directories ([`Places`]) and the programs that it carries ([`Embedded`]).
//! Any number of engines, in any number of processes, may work on the same places at once. Nothing
//! runs between commands but one monitor beside each running container.
//!
//! ```no_run
//! use hako_engine::{CreateRequest, Embedded, Engine, Places, Record, StartRequest};
//!
//! # fn main() -> Result<(), hako_engine::Error> {
//! # let embedded = Embedded::default();
//! let engine = Engine::open(Places::resolve(None, None)?, embedded)?;
//! let record = Record { image: "hako:tour".into(), ..Record::default() };
//! let container = engine.create(CreateRequest { name: None, record })?;
//! engine.start(&container, StartRequest::default())?;
//! println!("{}", engine.wait(&container)?.code);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod attach;
pub mod build;
mod container;
mod control;
mod create;
mod error;
mod exec;
mod export;
mod images;
mod info;
mod inspect;
mod lock;
pub mod logs;
mod names;
pub mod packages;
mod places;
mod program;
pub mod registry;
mod remove;
pub mod serve;
mod start;
mod status;
mod sweep;

use std::sync::{Arc, OnceLock};

use hako_content::Store;
use hako_db::Db;
use hako_image::ImageStore;
use hako_remote::Client;
use hako_snapshot::{Kind, Stores};

/// The user's options and the grammars of the flags that they come from.
pub use hako_bundle as options;
pub use hako_docker as docker;
pub use hako_image::{
    Image, ImportOptions, LayerProgress, LoadOptions, Loaded, Progress, PullOptions, Pulled,
    PushedImage, SaveFormat, SaveOptions, Silent, Source, Step, Summary, Watch, unix_seconds,
};
pub use hako_monitor::{Event, Exit, ExitRecord, Failure, Streams, client::Received, time};
pub use hako_oci::{Digest, Reference};
pub use hako_sys::tty::WindowSize;
/// What being attached asks of this process's own terminal, signals and descriptors.
pub use hako_sys::{clock, poll, signal, tty};

use crate::{container::Table, program::Program};
pub use crate::{
    container::{Container, Record},
    create::CreateRequest,
    error::{Error, Result},
    exec::ExecRequest,
    images::TOUR,
    info::{Feature, Info},
    places::Places,
    start::{Attachment, StartRequest},
    status::{Running, Status},
};

/// What hako carries inside itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded {
    /// The program hako-runc.
    pub runtime: &'static [u8],
    /// What tells this hako-runc from every other: its digest in hexadecimal digits.
    pub runtime_id: &'static str,
    /// The image `hako:tour`, as an archive.
    pub tour: &'static [u8],
    /// The ID of that image; empty where there is none.
    pub tour_id: &'static str,
}

/// The engine.
pub struct Engine {
    places: Places,
    embedded: Embedded,
    db: Arc<Db>,
    /// What only some commands need is opened when it is.
    images: OnceLock<ImageStore>,
    registries: OnceLock<Client>,
    snapshots: OnceLock<Arc<Stores>>,
    snapshotter: Option<Kind>,
    program: OnceLock<Program>,
    machine: OnceLock<hako_bundle::Machine>,
}

impl Engine {
    /// Opens the engine in its places, and makes them where they are absent.
    pub fn open(places: Places, embedded: Embedded) -> Result<Engine> {
        places.ensure()?;
        let db = Arc::new(Db::open(&places.root.join("hako.db"))?);
        let engine = Engine {
            places,
            embedded,
            db,
            images: OnceLock::new(),
            registries: OnceLock::new(),
            snapshots: OnceLock::new(),
            snapshotter: None,
            program: OnceLock::new(),
            machine: OnceLock::new(),
        };
        engine.containers().migrate()?;
        Ok(engine)
    }

    /// What makes new snapshots, by name: `overlay` or `erofs`. Without it, that is what was chosen
    /// when the store was made.
    pub fn with_snapshotter(mut self, name: &str) -> Result<Engine> {
        self.snapshotter = Some(name.parse()?);
        Ok(self)
    }

    /// Where everything is.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The container of this ID, name, or beginning of an ID.
    pub fn find(&self, word: &str) -> Result<Container> {
        self.containers().find(word)
    }

    /// All containers, newest first.
    pub fn list(&self) -> Result<Vec<Container>> {
        self.containers().all()
    }

    /// Gives a container another name.
    pub fn rename(&self, container: &Container, name: &str) -> Result<()> {
        names::check(name)?;
        self.containers().rename(&container.id, name)
    }

    pub(crate) fn containers(&self) -> Table<'_> {
        Table { db: &self.db }
    }

    pub(crate) fn needs_root(&self, what: &'static str) -> Result<()> {
        if places::is_root() { Ok(()) } else { Err(Error::NeedsRoot(what)) }
    }

    pub(crate) fn snapshots(&self) -> Result<&Arc<Stores>> {
        once(&self.snapshots, || {
            let dir = self.places.root.join("snapshots");
            Ok(Arc::new(Stores::open(&dir, self.snapshotter)?))
        })
    }

    pub(crate) fn images(&self) -> Result<&ImageStore> {
        once(&self.images, || {
            let content = Store::open(&self.places.root.join("content"), Arc::clone(&self.db))?;
            let snapshots = Arc::clone(self.snapshots()?);
            Ok(ImageStore::new(content, snapshots))
        })
    }

    pub(crate) fn registries(&self) -> Result<&Client> {
        once(&self.registries, || Ok(Client::new()?))
    }

    pub(crate) fn program(&self) -> Result<&Program> {
        once(&self.program, || Program::new(&self.embedded, &self.places.run_root))
    }

    pub(crate) fn machine(&self) -> Result<&hako_bundle::Machine> {
        once(&self.machine, || {
            hako_bundle::Machine::probe().map_err(Error::io("look at", "this machine"))
        })
    }
}

/// `OnceLock::get_or_try_init`, which is not stable yet.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}
