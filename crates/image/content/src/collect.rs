//! Garbage collection. Why it is right beside writers stands in the head of this crate.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use hako_db::Tx;
use hako_oci::{Algorithm, Digest};

use crate::{DOCUMENT_BYTES_MAX, Error, Kind, Names, Result, Store, children::children, owned};

/// What a collection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A dead blob: its name and its size.
struct Dead {
    digest: Digest,
    size: u64,
}

impl Store {
    /// Removes what killed processes left, if any did. Cheap where there is nothing: three
    /// directories are listed.
    pub fn sweep(&self) -> Result<()> {
        owned::sweep(&self.part("ingest"))?;
        owned::sweep(&self.part("leases"))?;
        let dead = self.db().read(|tx| self.dead_leases(tx))?;
        if !dead.is_empty() || !is_empty(&self.part("trash"))? {
            self.collect()?;
        }
        Ok(())
    }

    /// Removes all blobs that no reference and no live lease reaches.
    pub fn collect(&self) -> Result<Collected> {
        owned::sweep(&self.part("ingest"))?;
        owned::sweep(&self.part("leases"))?;
        self.sweep_partial(false)?;
        let mut refers = HashMap::new();
        let blobs = self.blobs()?;
        let alive = self.db().read(|tx| self.alive(tx, &mut refers))?;
        let suspects: Vec<Dead> =
            blobs.into_iter().filter(|b| !alive.contains(&b.digest)).collect();
        // Dead leases have rows even where they keep nothing that is still there.
        if !suspects.is_empty() || !self.db().read(|tx| self.dead_leases(tx))?.is_empty() {
            // What made them garbage must outlive a power cut that their loss outlives.
            self.db().sync()?;
            let collected = self.take(&suspects, &mut refers)?;
            self.empty_trash()?;
            return Ok(collected);
        }
        self.empty_trash()?;
        Ok(Collected::default())
    }

    /// What a collection would remove after `change`. Nothing changes: what `change` does is undone.
    pub fn garbage_after<E: From<Error>>(
        &self,
        change: impl FnOnce(&Names<'_>) -> Result<(), E>,
    ) -> Result<Collected, E> {
        /// Undoes the transaction either way.
        enum Undo<E> {
            Found(Collected),
            Failed(E),
        }
        impl<E: From<Error>> From<Error> for Undo<E> {
            fn from(e: Error) -> Self {
                Undo::Failed(e.into())
            }
        }
        let found = self.update(|names| {
            change(names).map_err(Undo::Failed)?;
            let alive = self.alive(names.tx(), &mut HashMap::new())?;
            let mut found = Collected::default();
            for dead in self.blobs()?.iter().filter(|blob| !alive.contains(&blob.digest)) {
                found.blobs += 1;
                found.bytes += dead.size;
            }
            Err::<(), _>(Undo::Found(found))
        });
        match found {
            Err(Undo::Found(found)) => Ok(found),
            Err(Undo::Failed(e)) => Err(e),
            Ok(()) => Ok(Collected::default()),
        }
    }

    /// Moves those of `suspects` that are dead still to `trash/`.
    fn take(&self, suspects: &[Dead], refers: &mut Refers) -> Result<Collected> {
        self.db().write(|tx| {
            for lease in self.dead_leases(tx)? {
                tx.execute("DELETE FROM lease WHERE id = ?1", [lease])?;
            }
            let alive = self.alive(tx, refers)?;
            let mut collected = Collected::default();
            for Dead { digest, size } in suspects.iter().filter(|b| !alive.contains(&b.digest)) {
                let (from, to) = (self.blob_path(digest), self.part("trash").join(digest.hex()));
                match fs::rename(&from, &to) {
                    Ok(()) => collected.blobs += 1,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(Error::io("rename", &from, e)),
                }
                collected.bytes += size;
                tx.execute("DELETE FROM derived WHERE source = ?1", [digest.to_string()])?;
            }
            Ok(collected)
        })
    }

    fn empty_trash(&self) -> Result<()> {
        let dir = self.part("trash");
        for entry in fs::read_dir(&dir).map_err(|e| Error::io("readdir", &dir, e))? {
            owned::remove(&entry.map_err(|e| Error::io("readdir", &dir, e))?.path())?;
        }
        Ok(())
    }

    /// All blobs there are.
    fn blobs(&self) -> Result<Vec<Dead>> {
        let mut blobs = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.part("blobs").join(algorithm.name());
            let io = |call| {
                let dir = &dir;
                move |e| Error::io(call, dir, e)
            };
            for entry in fs::read_dir(&dir).map_err(io("readdir"))? {
                let entry = entry.map_err(io("readdir"))?;
                let name = format!("{}:{}", algorithm.name(), entry.file_name().to_string_lossy());
                // What is not named like a blob is not ours to delete.
                let Ok(digest) = name.parse() else { continue };
                match entry.metadata() {
                    // Who keeps it under another name frees its bytes.
                    Ok(metadata) if metadata.nlink() > 1 => blobs.push(Dead { digest, size: 0 }),
                    Ok(metadata) => blobs.push(Dead { digest, size: metadata.len() }),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(Error::io("stat", &entry.path(), e)),
                }
            }
        }
        Ok(blobs)
    }

    /// The leases with rows whose owner is gone.
    fn dead_leases(&self, tx: &Tx<'_>) -> Result<Vec<String>> {
        let dir = self.part("leases");
        let mut dead = Vec::new();
        for id in tx.rows("SELECT DISTINCT id FROM lease", [], |row| row.get::<_, String>(0))? {
            if !owned::is_alive(&dir.join(&id))? {
                dead.push(id);
            }
        }
        Ok(dead)
    }

    /// All that references and live leases reach.
    fn alive(&self, tx: &Tx<'_>, refers: &mut Refers) -> Result<HashSet<Digest>> {
        let root =
            |row: &hako_db::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        let mut roots = tx.rows("SELECT digest, media_type FROM reference", [], root)?;
        let dead: HashSet<String> = self.dead_leases(tx)?.into_iter().collect();
        let leased = "SELECT digest, media_type, id FROM lease";
        for (root, id) in tx.rows(leased, [], |row| Ok((root(row)?, row.get::<_, String>(2)?)))? {
            if !dead.contains(&id) {
                roots.push(root);
            }
        }
        let mut to_visit = Vec::new();
        for (digest, media_type) in roots {
            let digest: Digest = digest.parse().map_err(|e: hako_oci::digest::Error| {
                Error::DamagedReference { name: digest.clone(), why: e.to_string() }
            })?;
            to_visit.push((digest, Kind::of(&media_type)));
        }
        // By kind too: whoever names a manifest as a layer must not hide what it refers to.
        let mut seen: HashSet<(Digest, Kind)> = HashSet::new();
        while let Some((digest, kind)) = to_visit.pop() {
            if !seen.insert((digest.clone(), kind)) || kind == Kind::Leaf {
                continue;
            }
            to_visit.extend(self.refers(&digest, kind, refers)?.iter().cloned());
        }
        Ok(seen.into_iter().map(|(digest, _)| digest).collect())
    }

    /// What a document refers to, read once: blobs do not change.
    fn refers<'r>(
        &self,
        digest: &Digest,
        kind: Kind,
        refers: &'r mut Refers,
    ) -> Result<&'r [(Digest, Kind)]> {
        let key = (digest.clone(), kind);
        if !refers.contains_key(&key) {
            let Some(bytes) = self.small(digest)? else { return Ok(&[]) };
            // What is no document refers to nothing; it must not keep others from being collected.
            let found = children(kind, &bytes).unwrap_or_default();
            let found = found.into_iter().map(|c| (c.digest, Kind::of(&c.media_type))).collect();
            refers.insert(key.clone(), found);
        }
        Ok(refers.get(&key).map_or(&[], Vec::as_slice))
    }

    /// The bytes of a blob, if it is there and no longer than a document may be.
    fn small(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let mut blob = match self.blob(digest) {
            Err(Error::Missing(_)) => return Ok(None),
            done => done?,
        };
        if blob.size() > DOCUMENT_BYTES_MAX {
            return Ok(Some(Vec::new()));
        }
        let mut bytes = Vec::with_capacity(blob.size() as usize);
        io::copy(&mut blob, &mut bytes)
            .map_err(|e| Error::io("read", &self.blob_path(digest), e))?;
        Ok(Some(bytes))
    }
}

/// Documents that were read: what each refers to.
type Refers = HashMap<(Digest, Kind), Vec<(Digest, Kind)>>;

fn is_empty(dir: &Path) -> Result<bool> {
    let first = fs::read_dir(dir).map_err(|e| Error::io("readdir", dir, e))?.next();
    Ok(first.is_none())
}
