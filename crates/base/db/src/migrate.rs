//! Migrations: each component's tables have a version, and steps that lead to the next.

use crate::{Db, Error, Result, Tx};

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS component (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID";

pub(crate) fn migrate(db: &Db, component: &str, steps: &[&str]) -> Result<()> {
    let known = steps.len() as i64;
    let check = |found: i64| match found <= known {
        true => Ok(found),
        false => {
            Err(Error::Newer { path: db.path.clone(), component: component.into(), found, known })
        }
    };
    // Without a turn: nearly always there is nothing to do.
    if check(db.read(|tx| version(tx, component))?)? == known {
        return Ok(());
    }
    db.write(|tx| {
        tx.batch(VERSIONS)?;
        // Asked again: another process may have been first.
        let found = check(version(tx, component)?)?;
        for step in steps.iter().skip(found as usize) {
            tx.batch(step)?;
        }
        tx.execute(
            "INSERT INTO component (name, version) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET version = ?2",
            (component, known),
        )?;
        Ok(())
    })
}

fn version(tx: &Tx<'_>, component: &str) -> Result<i64> {
    let born = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'component'";
    if tx.row(born, [], |_| Ok(()))?.is_none() {
        return Ok(0);
    }
    let sql = "SELECT version FROM component WHERE name = ?1";
    Ok(tx.row(sql, [component], |row| row.get(0))?.unwrap_or(0))
}
