//! What steps made before, by their keys.
//!
//! ```text
//! table build_step                key → layers of the result, parts of the key, when it was used
//! name build/<diff ID>            keeps the layer's blob in the content store
//! ```
//!
//! Layers of base images are not kept for their own sake: where they are gone, the step is as good
//! as never done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use hako_content::Store;
use hako_db::{Db, params};

use crate::{
    Error, Result,
    graph::{FileSystem, FsLayer},
    key::Parts,
};

const MIGRATIONS: &[&str] = &["
    CREATE TABLE build_step (
        key TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        parts TEXT NOT NULL,
        layers TEXT NOT NULL,
        made_ns INTEGER NOT NULL,
        used_ns INTEGER NOT NULL,
        uses INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX build_step_name ON build_step (name);
"];

/// What names of the content store begin with that belong to the cache.
const NAME: &str = "build/";
/// How many steps of a name are compared to say what changed.
const COMPARED: u32 = 50;

/// The cache of a store.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    db: Arc<Db>,
    content: Store,
}

/// One step that was done.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// What it is called: the instruction.
    pub name: String,
    /// Bytes of the layer that it added.
    pub bytes: u64,
    /// When, in nanoseconds since the epoch.
    pub made_ns: i64,
    /// When it was last used.
    pub used_ns: i64,
    /// How often it was used.
    pub uses: i64,
    pub(crate) layer: Option<FsLayer>,
}

impl Record {
    /// What tells its layer from others: its diff ID. `None` where it added none.
    pub fn layer_id(&self) -> Option<&hako_oci::Digest> {
        self.layer.as_ref().map(|layer| &layer.diff_id)
    }
}

impl Cache {
    pub(crate) fn open(db: Arc<Db>, content: Store) -> Result<Cache> {
        db.migrate("build", MIGRATIONS)?;
        Ok(Cache { db, content })
    }

    /// What the step of this key made, if all of it is still there.
    pub(crate) fn find(&self, key: &str) -> Result<Option<FileSystem>> {
        let row = self.db.read(|tx| {
            tx.row("SELECT layers FROM build_step WHERE key = ?1", [key], |r| r.get::<_, String>(0))
        })?;
        let Some(text) = row else { return Ok(None) };
        let made: FileSystem = decode("cache", &text)?;
        for layer in &made.layers {
            if self.content.size(&layer.blob.digest)? != Some(layer.blob.size) {
                return Ok(None);
            }
        }
        Ok(Some(made))
    }

    /// Notes that steps were used.
    pub(crate) fn touch(&self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let now = now_ns();
        self.db.write(|tx| {
            for key in keys {
                tx.execute(
                    "UPDATE build_step SET used_ns = ?2, uses = uses + 1 WHERE key = ?1",
                    params![key, now],
                )?;
            }
            Ok::<(), hako_db::Error>(())
        })?;
        Ok(())
    }

    /// Keeps what a step made, under all its keys.
    pub(crate) fn keep(&self, keys: &[Parts], name: &str, made: &FileSystem) -> Result<()> {
        if let Some(layer) = made.layers.last() {
            let name = format!("{NAME}{}", layer.diff_id);
            self.content.update(|names| names.set(&name, &layer.blob, &BTreeMap::new()))?;
        }
        let layers = encode("cache", made)?;
        let now = now_ns();
        let rows = keys
            .iter()
            .map(|parts| Ok((parts.key(), encode("cache", parts)?)))
            .collect::<Result<Vec<_>>>()?;
        self.db.write(|tx| {
            for (key, parts) in &rows {
                tx.execute(
                    "INSERT OR REPLACE INTO build_step VALUES (?1, ?2, ?3, ?4, ?5, ?5, 0)",
                    params![key, name, parts, layers, now],
                )?;
            }
            Ok::<(), hako_db::Error>(())
        })?;
        Ok(())
    }

    /// What is not as it was when a step of this name was done: compared with the one that was
    /// most like it. `None` where no such step ever was.
    pub(crate) fn why(&self, name: &str, parts: &Parts) -> Result<Option<Vec<String>>> {
        let rows = self.db.read(|tx| {
            tx.rows(
                "SELECT parts FROM build_step WHERE name = ?1 ORDER BY used_ns DESC LIMIT ?2",
                params![name, COMPARED],
                |r| r.get::<_, String>(0),
            )
        })?;
        let mut nearest: Option<(usize, Parts)> = None;
        for text in rows {
            let before: Parts = decode("cache", &text)?;
            let common = parts.common(&before);
            if nearest.as_ref().is_none_or(|(most, _)| common > *most) {
                nearest = Some((common, before));
            }
        }
        Ok(nearest.map(|(_, before)| parts.difference(&before)))
    }

    /// Everything that is kept, what was used last first.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let rows = self.db.read(|tx| {
            tx.rows(
                "SELECT key, name, layers, made_ns, used_ns, uses FROM build_step
                 ORDER BY used_ns DESC, key",
                [],
                |r| {
                    let layers: String = r.get(2)?;
                    let numbers: (i64, i64, i64) = (r.get(3)?, r.get(4)?, r.get(5)?);
                    Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, layers, numbers))
                },
            )
        })?;
        rows.into_iter()
            .map(|(key, name, layers, (made_ns, used_ns, uses))| {
                let mut made: FileSystem = decode("cache", &layers)?;
                let layer = made.layers.pop();
                let bytes = layer.as_ref().map_or(0, |layer| layer.blob.size);
                Ok(Record { key, name, bytes, made_ns, used_ns, uses, layer })
            })
            .collect()
    }

    /// Forgets steps, and lets go of layers that no other step needs.
    pub(crate) fn remove(&self, keys: &BTreeSet<String>) -> Result<()> {
        self.db.write(|tx| {
            for key in keys {
                tx.execute("DELETE FROM build_step WHERE key = ?1", [key])?;
            }
            Ok::<(), hako_db::Error>(())
        })?;
        let needed: BTreeSet<String> = self
            .records()?
            .into_iter()
            .filter_map(|record| Some(format!("{NAME}{}", record.layer?.diff_id)))
            .collect();
        self.content.update(|names| {
            for named in names.with_prefix(NAME)? {
                if !needed.contains(&named.name) {
                    names.remove(&named.name)?;
                }
            }
            Ok::<(), hako_content::Error>(())
        })?;
        Ok(())
    }
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

fn encode(what: &'static str, value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|source| Error::Json { what, source })
}

fn decode<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| Error::Json { what, source })
}
