//! A container's file system as a tar.

use std::io::Write;

use hako_snapshot::Snapshotter as _;

use crate::{Container, Engine, Error, Result};

impl Engine {
    /// Writes all files of a container, of its image and its own, but nothing that is mounted in
    /// it. It may run meanwhile.
    pub fn export(&self, container: &Container, out: &mut dyn Write) -> Result<()> {
        self.needs_root("export")?;
        let root = self.snapshots()?.view(&container.id)?;
        let out = std::io::BufWriter::with_capacity(256 << 10, out);
        hako_layer::pack(&root, out).map_err(|e| Error::Export {
            container: container.name.clone(),
            source: Box::new(e),
        })?;
        Ok(())
    }
}
