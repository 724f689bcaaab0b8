//! References: names for content, with labels. What a name means is its user's business.

use std::collections::BTreeMap;

use hako_db::{Row, Tx};
use hako_oci::{Descriptor, Digest};

use crate::{Error, Result, Store};

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The content: a root for garbage collection, with all that it refers to.
    pub target: Descriptor,
    /// What its user remembers with it.
    pub labels: BTreeMap<String, String>,
}

/// The names, within one transaction.
#[derive(Debug)]
pub struct Names<'t> {
    store: &'t Store,
    tx: &'t Tx<'t>,
}

const COLUMNS: &str = "name, digest, media_type, size, labels";

impl Store {
    /// Looks at the names, all as they are at one moment.
    pub fn view<T, E: From<Error>>(
        &self,
        look: impl FnOnce(&Names<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.db()
            .read(|tx| look(&Names { store: self, tx }).map_err(Failed::User))
            .map_err(Failed::into)
    }

    /// Changes names, all at once or, where `change` fails, none.
    pub fn update<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&Names<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.db()
            .write(|tx| change(&Names { store: self, tx }).map_err(Failed::User))
            .map_err(Failed::into)
    }
}

impl Names<'_> {
    /// What `name` stands for.
    pub fn get(&self, name: &str) -> Result<Option<Named>> {
        let sql = format!("SELECT {COLUMNS} FROM reference WHERE name = ?1");
        self.tx.row(&sql, [name], Fields::of)?.map(Fields::parse).transpose()
    }

    /// All names that begin with `prefix`, in order.
    pub fn with_prefix(&self, prefix: &str) -> Result<Vec<Named>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM reference WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1 \
             ORDER BY name"
        );
        self.tx.rows(&sql, [prefix], Fields::of)?.into_iter().map(Fields::parse).collect()
    }

    /// The first names after `after` that are before `before`, in order of their bytes.
    pub fn between(&self, after: &str, before: &str, count_max: usize) -> Result<Vec<Named>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM reference WHERE name > ?1 AND name < ?2 ORDER BY name LIMIT ?3"
        );
        let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
        let rows = self.tx.rows(&sql, (after, before, count_max), Fields::of)?;
        rows.into_iter().map(Fields::parse).collect()
    }

    /// Lets `name` stand for `target`, which must be in the store, in place of what it stood for.
    pub fn set(
        &self,
        name: &str,
        target: &Descriptor,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        if self.store.size(&target.digest)?.is_none() {
            return Err(Error::Missing(target.digest.clone()));
        }
        let labels =
            serde_json::Map::from_iter(labels.iter().map(|(k, v)| (k.clone(), v.clone().into())));
        let labels = serde_json::Value::Object(labels).to_string();
        let row = (name, target.digest.to_string(), &target.media_type, target.size as i64, labels);
        let sql =
            format!("INSERT OR REPLACE INTO reference ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)");
        self.tx.execute(&sql, row)?;
        Ok(())
    }

    /// Forgets `name`, and says whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool> {
        Ok(self.tx.execute("DELETE FROM reference WHERE name = ?1", [name])? > 0)
    }

    pub(crate) fn tx(&self) -> &Tx<'_> {
        self.tx
    }

    pub(crate) fn end_lease(&self, id: &str) -> Result<()> {
        self.tx.execute("DELETE FROM lease WHERE id = ?1", [id])?;
        Ok(())
    }
}

/// A row as the database has it.
struct Fields {
    name: String,
    digest: String,
    media_type: String,
    size: i64,
    labels: String,
}

impl Fields {
    fn of(row: &Row<'_>) -> std::result::Result<Fields, hako_db::SqlError> {
        Ok(Fields {
            name: row.get(0)?,
            digest: row.get(1)?,
            media_type: row.get(2)?,
            size: row.get(3)?,
            labels: row.get(4)?,
        })
    }

    fn parse(self) -> Result<Named> {
        let damaged = |why: String| Error::DamagedReference { name: self.name.clone(), why };
        let digest: Digest = self.digest.parse().map_err(|e| damaged(format!("{e}")))?;
        let size = u64::try_from(self.size).map_err(|e| damaged(format!("size: {e}")))?;
        let labels =
            serde_json::from_str(&self.labels).map_err(|e| damaged(format!("labels: {e}")))?;
        let target = Descriptor::new(&self.media_type, digest, size);
        Ok(Named { target, labels, name: self.name })
    }
}

/// Tells the database's errors from those of the caller's closure.
enum Failed<E> {
    Db(hako_db::Error),
    User(E),
}

impl<E> From<hako_db::Error> for Failed<E> {
    fn from(e: hako_db::Error) -> Self {
        Failed::Db(e)
    }
}

impl<E: From<Error>> Failed<E> {
    fn into(self) -> E {
        match self {
            Failed::Db(e) => Error::Db(e).into(),
            Failed::User(e) => e,
        }
    }
}
