//! What was made of a blob in a way that always gives the same: its compressed form, say.
//!
//! Only digest and size are remembered, as long as the source is there. What was made may be gone;
//! whoever needs it makes it again, and who only has to ask for it need not.

use hako_oci::Digest;

use crate::{Error, Result, Store};

impl Store {
    /// Digest and size of what was made of `source` in this way, if that is known.
    pub fn derived(&self, source: &Digest, how: &str) -> Result<Option<(Digest, u64)>> {
        let sql = "SELECT digest, size FROM derived WHERE source = ?1 AND how = ?2";
        let found = self.db().read(|tx| {
            tx.row(sql, (source.to_string(), how), |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })
        })?;
        let Some((digest, size)) = found else { return Ok(None) };
        let damaged =
            |why: String| Error::DamagedReference { name: format!("{source} {how}"), why };
        let digest = digest.parse().map_err(|e| damaged(format!("{e}")))?;
        let size = u64::try_from(size).map_err(|e| damaged(format!("size: {e}")))?;
        Ok(Some((digest, size)))
    }

    /// Remembers what was made of `source`.
    pub fn set_derived(
        &self,
        source: &Digest,
        how: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<()> {
        let sql =
            "INSERT OR REPLACE INTO derived (source, how, digest, size) VALUES (?1, ?2, ?3, ?4)";
        let row = (source.to_string(), how, digest.to_string(), size as i64);
        self.db().write(|tx| tx.execute(sql, row))?;
        Ok(())
    }
}
