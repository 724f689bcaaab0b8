//! Containers as the database knows them: what was asked for, not how they are.

use std::collections::BTreeMap;

use hako_bundle::RunOptions;
use hako_db::{Db, Tx};
use hako_oci::{Digest, image::ContainerConfig};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const MIGRATIONS: &[&str] = &["
    CREATE TABLE container (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image_id TEXT NOT NULL,
        created_ns INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX container_by_image ON container (image_id);
"];

const COLUMNS: &str = "id, name, image_id, created_ns, record";

/// A container: made once from an image and a user's wishes.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, without Docker's leading slash.
    pub name: String,
    /// The digest of its image's configuration.
    pub image_id: Digest,
    /// When it was made, in nanoseconds since 1970.
    pub created_ns: i64,
    /// The rest.
    pub record: Record,
}

/// What is stored of a container beside its columns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// The image as the user named it.
    pub image: String,
    /// The image's own configuration.
    pub config: ContainerConfig,
    /// The user's wishes.
    pub options: RunOptions,
    /// `--rm`.
    pub auto_remove: bool,
    /// Which of stdin, stdout and stderr the user wanted to be attached to.
    pub attached: [bool; 3],
    /// `--log-opt max-size`, in bytes.
    pub log_bytes_max: Option<u64>,
    /// `--log-opt max-file`.
    pub log_files_max: u32,
    /// `--log-driver none`.
    pub no_log: bool,
    /// Environment that the engine adds, which is not the user's to see in the options.
    pub engine_env: Vec<String>,
}

impl Container {
    /// The first twelve digits of its ID.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// Labels: the image's, and over them the user's.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.record.config.labels.clone();
        labels.extend(self.record.options.labels.clone());
        labels
    }
}

/// The table of containers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'d> {
    pub db: &'d Db,
}

impl Table<'_> {
    pub(crate) fn migrate(&self) -> Result<()> {
        Ok(self.db.migrate("engine", MIGRATIONS)?)
    }

    /// Adds a container. `before` runs in the same transaction, which fails with it.
    pub(crate) fn insert(&self, container: &Container) -> Result<()> {
        let record = encode(container)?;
        let digest = container.image_id.to_string();
        self.db.write(|tx| {
            if let Some(id) = id_of_name(tx, &container.name)? {
                return Err(Error::NameInUse { name: container.name.clone(), id });
            }
            let row = (&container.id, &container.name, digest, container.created_ns, record);
            let sql = format!("INSERT INTO container ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)");
            tx.execute(&sql, row)?;
            Ok(())
        })
    }

    /// Removes a container; `false` if it was gone.
    pub(crate) fn remove(&self, id: &str) -> Result<bool> {
        self.db.write(|tx| Ok(tx.execute("DELETE FROM container WHERE id = ?1", [id])? > 0))
    }

    pub(crate) fn rename(&self, id: &str, name: &str) -> Result<()> {
        self.db.write(|tx| {
            match id_of_name(tx, name)? {
                Some(other) => return Err(Error::NameInUse { name: name.to_owned(), id: other }),
                None => tx.execute("UPDATE container SET name = ?2 WHERE id = ?1", [id, name])?,
            };
            Ok(())
        })
    }

    pub(crate) fn name_is_free(&self, name: &str) -> Result<()> {
        self.db.read(|tx| match id_of_name(tx, name)? {
            Some(id) => Err(Error::NameInUse { name: name.to_owned(), id }),
            None => Ok(()),
        })
    }

    /// The container of this ID, name, or beginning of an ID, in this order.
    pub(crate) fn find(&self, word: &str) -> Result<Container> {
        let bare = word.strip_prefix('/').unwrap_or(word);
        let select = |tx: &Tx<'_>, condition: &str, word: &str| -> Result<Vec<Row>> {
            let sql = format!("SELECT {COLUMNS} FROM container WHERE {condition} LIMIT 2");
            Ok(tx.rows(&sql, [word], row)?)
        };
        let found = self.db.read(|tx| -> Result<Vec<Row>> {
            for condition in ["id = ?1", "name = ?1"] {
                let rows = select(tx, condition, bare)?;
                if !rows.is_empty() {
                    return Ok(rows);
                }
            }
            match !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
                true => select(tx, "substr(id, 1, length(?1)) = ?1", bare),
                false => Ok(Vec::new()),
            }
        })?;
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(row), None) => decode(row),
            (None, _) => Err(Error::NoContainer(word.to_owned())),
            (Some(_), Some(_)) => Err(Error::AmbiguousId(word.to_owned())),
        }
    }

    /// All containers, newest first.
    pub(crate) fn all(&self) -> Result<Vec<Container>> {
        let sql = format!("SELECT {COLUMNS} FROM container ORDER BY created_ns DESC, id");
        let rows: Vec<Row> = self.db.read(|tx| Ok::<_, Error>(tx.rows(&sql, (), row)?))?;
        rows.into_iter().map(decode).collect()
    }

    /// IDs of all containers.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        self.db.read(|tx| Ok(tx.rows("SELECT id FROM container", (), |r| r.get(0))?))
    }

    /// Containers made from this image.
    pub(crate) fn of_image(&self, image_id: &Digest) -> Result<Vec<Container>> {
        let sql = format!("SELECT {COLUMNS} FROM container WHERE image_id = ?1 ORDER BY id");
        let rows: Vec<Row> =
            self.db.read(|tx| Ok::<_, Error>(tx.rows(&sql, [image_id.to_string()], row)?))?;
        rows.into_iter().map(decode).collect()
    }
}

type Row = (String, String, String, i64, String);

fn row(r: &hako_db::Row<'_>) -> Result<Row, hako_db::SqlError> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
}

fn id_of_name(tx: &Tx<'_>, name: &str) -> Result<Option<String>> {
    Ok(tx.row("SELECT id FROM container WHERE name = ?1", [name], |r| r.get(0))?)
}

fn encode(container: &Container) -> Result<String> {
    serde_json::to_string(&container.record)
        .map_err(|source| Error::Record { id: container.id.clone(), source })
}

fn decode((id, name, image_id, created_ns, record): Row) -> Result<Container> {
    let broken = |source| Error::Record { id: id.clone(), source };
    let record: Record = serde_json::from_str(&record).map_err(broken)?;
    let image_id = serde_json::from_value(image_id.into()).map_err(broken)?;
    Ok(Container { id, name, image_id, created_ns, record })
}
