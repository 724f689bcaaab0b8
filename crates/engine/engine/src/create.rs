//! Making a container: a name, a writable snapshot, a row.

use std::time::{SystemTime, UNIX_EPOCH};

use hako_snapshot::{ActiveOptions, Snapshotter as _};
use hako_sys::fs::Lock;

use crate::{Container, Engine, Error, Record, Result, lock, names, places::private_dirs};

/// How often a random name is tried before we give up.
const NAME_ATTEMPTS: u32 = 8;

/// What a new container is made from.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// `--name`; a random one where absent.
    pub name: Option<String>,
    /// The image as the user named it, and everything else that is remembered. The image's own
    /// configuration is filled in.
    pub record: Record,
}

impl Engine {
    /// Makes a container, and returns it.
    ///
    /// The image must be in the store ([`Error::is_no_image`]), or be the tour image.
    pub fn create(&self, request: CreateRequest) -> Result<Container> {
        let volatile = request.record.auto_remove;
        self.create_with(request, ActiveOptions { volatile })
    }

    /// The same, with a say in what its writable directory is worth.
    pub(crate) fn create_with(
        &self,
        request: CreateRequest,
        options: ActiveOptions,
    ) -> Result<Container> {
        self.needs_root("create")?;
        if let Some(name) = &request.name {
            names::check(name)?;
            self.containers().name_is_free(name)?;
        }
        self.sweep()?;
        // From here on, neither the image's layers nor what we make is taken for left over.
        let _layers = self.snapshots()?.hold()?;
        let _creating = lock::take(&self.places.creating_lock(), Lock::Shared)?;
        let mut record = request.record;
        let image = self.image_for_run(&record.image)?;
        record.engine_env = self.engine_env(&image)?;
        record.config = image.config().config.clone().unwrap_or_default();
        // By ID from now on: a container may get another name, and another one its name.
        for (namespace, word) in hako_bundle::joined_containers(&mut record.options) {
            *word = self.find(word).map(|other| other.id).map_err(|e| Error::Join {
                namespace,
                container: word.clone(),
                why: e.to_string(),
            })?;
        }
        hako_bundle::mount::ensure_sources(&record.options.mounts)?;
        hako_bundle::check(&record.options, &record.config, self.machine()?)?;
        let chain = self.unpack(&image)?;

        let id = names::new_id()?;
        let made = self.make(&id, request.name, record, image.id(), &chain, options);
        if made.is_err() {
            // The first error counts; what cannot be removed now, a sweep removes.
            self.remove_files(&id).ok();
        }
        made
    }

    fn make(
        &self,
        id: &str,
        name: Option<String>,
        record: Record,
        image_id: &hako_oci::Digest,
        chain: &hako_snapshot::Chain,
        options: ActiveOptions,
    ) -> Result<Container> {
        private_dirs(&self.places.container_dir(id))?;
        self.snapshots()?.prepare(id, chain, options)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut container = Container {
            id: id.to_owned(),
            name: String::new(),
            image_id: image_id.clone(),
            created_ns: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            record,
        };
        if let Some(name) = name {
            container.name = name;
            self.containers().insert(&container)?;
            return Ok(container);
        }
        for attempt in 0..NAME_ATTEMPTS {
            container.name = names::suggest(attempt)?;
            match self.containers().insert(&container) {
                Err(Error::NameInUse { .. }) => {}
                inserted => return inserted.map(|()| container),
            }
        }
        Err(Error::NameInUse { name: container.name, id: "another".into() })
    }
}
