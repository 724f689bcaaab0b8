//! The one SQLite database: opening, migrations, transactions.
//!
//! Content, snapshots and containers each own tables in one file; this crate says how that file is
//! opened, and nothing of what is in it.
//!
//! ```text
//! hako.db        tables, WAL mode, 0600
//! hako.db-wal    what is not yet checkpointed; stays between commands
//! hako.db-shm    index of the former
//! hako.db-lock   flock'd by the process whose turn it is to write
//! hako.db-new    a database being born; overwritten by the next birth
//! ```
//!
//! What always holds:
//!
//! - A file named `hako.db` is a database in WAL mode: it is made beside and renamed into place.
//!   So opening sets no journal mode, and two first commands at once make one database.
//! - Readers wait for nobody. Writers queue on `hako.db-lock`, where the kernel wakes them in
//!   order: SQLite's own waiting polls, and a busy neighbour can starve it for ever.
//! - A commit is atomic at once and survives `kill -9`; it is durable after the next checkpoint or
//!   [`Db::sync`]. A power cut may take the last ones back, in order. So whoever destroys files
//!   that a deleted row had named calls [`Db::sync`] between the two.
//! - The last command to close does not checkpoint: that costs two fsyncs, every time.
//!
//! ```
//! # fn main() -> Result<(), hako_db::Error> {
//! # let dir = tempfile::tempdir().unwrap();
//! let db = hako_db::Db::open(&dir.path().join("hako.db"))?;
//! db.migrate("demo", &["CREATE TABLE demo (name TEXT PRIMARY KEY, size INTEGER) STRICT"])?;
//! db.write(|tx| tx.execute("INSERT INTO demo VALUES (?1, ?2)", ("a", 1)))?;
//! let size = db.read(|tx| tx.row("SELECT size FROM demo WHERE name = ?1", ["a"], |r| r.get(0)))?;
//! assert_eq!(size, Some(1));
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod error;
mod migrate;
mod open;
mod turn;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use error::Error;
use rusqlite::{Connection, Params, Transaction, TransactionBehavior};
pub use rusqlite::{Error as SqlError, Row, params, types};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// How long a writer waits for its turn before it says that somebody holds it up.
const TURN_WAIT: Duration = Duration::from_secs(60);

/// The database. Shared between threads; each transaction has a connection of its own.
#[derive(Debug)]
pub struct Db {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Db {
    /// Opens the database at `path`, and makes it first where there is none.
    ///
    /// Its directory must exist.
    pub fn open(path: &Path) -> Result<Db> {
        let connection = open::open(path)?;
        Ok(Db { path: path.to_owned(), idle: Mutex::new(vec![connection]) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the tables of `component` up to date: `steps[n]` takes version n to n + 1.
    ///
    /// Steps that ran are never run again, and never change. Costs one look-up where there is
    /// nothing to do; any number of processes may do it at once.
    pub fn migrate(&self, component: &str, steps: &[&str]) -> Result<()> {
        migrate::migrate(self, component, steps)
    }

    /// Runs `act` in a transaction that sees one state throughout, and writes nothing.
    pub fn read<T, E: From<Error>>(
        &self,
        act: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let connection = self.connection()?;
        let value = self.transact(&connection, TransactionBehavior::Deferred, act)?;
        self.put_back(connection);
        Ok(value)
    }

    /// Runs `act` in a transaction that is alone in writing, and commits if it returns `Ok`.
    ///
    /// Keep it short, for every other writer on the machine waits; never nest two.
    pub fn write<T, E: From<Error>>(
        &self,
        act: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let _turn = turn::take(&self.path, TURN_WAIT)?;
        let connection = self.connection()?;
        let value = self.transact(&connection, TransactionBehavior::Immediate, act)?;
        self.put_back(connection);
        Ok(value)
    }

    /// Makes every transaction that was committed before survive a power cut.
    pub fn sync(&self) -> Result<()> {
        // What a checkpoint took out of the log is on the disk already: it synced both files.
        // Closing this descriptor drops no lock, for SQLite locks the other two files.
        match File::open(open::beside(&self.path, "-wal")).and_then(|log| log.sync_data()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(&self.path, e)),
            _ => Ok(()),
        }
    }

    fn transact<T, E: From<Error>>(
        &self,
        connection: &Connection,
        behavior: TransactionBehavior,
        act: impl FnOnce(&Tx<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let failed = |at, source| Error::of(&self.path, at, source);
        // Unchecked in what the type system could say: it is ours alone, and has no other.
        let tx =
            Transaction::new_unchecked(connection, behavior).map_err(|e| failed("BEGIN", e))?;
        let value = act(&Tx { connection, path: &self.path })?;
        tx.commit().map_err(|e| failed("COMMIT", e))?;
        Ok(value)
    }

    fn connection(&self) -> Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => open::open(&self.path),
        }
    }

    /// Only after success: a connection that saw an error is closed, whatever its state.
    fn put_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// What may be done within a transaction. Statements are prepared once for each connection.
#[derive(Debug)]
pub struct Tx<'c> {
    connection: &'c Connection,
    path: &'c Path,
}

impl Tx<'_> {
    /// Runs a statement, and returns how many rows it changed.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(|e| Error::of(self.path, sql, e))
    }

    /// The first row of a query, if there is one.
    pub fn row<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let first = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            rows.next()?.map(map).transpose()
        };
        first().map_err(|e| Error::of(self.path, sql, e))
    }

    /// All rows of a query.
    pub fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let all = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(params, map)?.collect()
        };
        all().map_err(|e| Error::of(self.path, sql, e))
    }

    /// Runs several statements without parameters, as of a migration.
    fn batch(&self, sql: &str) -> Result<()> {
        self.connection.execute_batch(sql).map_err(|e| Error::of(self.path, sql, e))
    }
}
