//! Verification: everything that is kept of an image is read again and hashed.

use std::collections::BTreeSet;

use hako_oci::Digest;

use crate::{Image, ImageStore, Result};

impl ImageStore {
    /// Reads the blobs of an image, and what its layers became, and says what is not as it was.
    ///
    /// An error is something that kept us from looking; what is found broken is the answer.
    pub fn verify(&self, image: &Image) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let mut digests = vec![&image.descriptor().digest, image.id()];
        digests.push(&image.manifest().config.digest);
        digests.extend(image.manifest().layers.iter().map(|layer| &layer.digest));
        let mut seen: BTreeSet<&Digest> = BTreeSet::new();
        for digest in digests {
            if seen.insert(digest)
                && let Some(fault) = self.verify_blob(digest)?
            {
                faults.push(fault);
            }
        }
        // Nothing is unpacked for this: layers that are not there are made again when wanted.
        if self.snapshots().has(&image.chain()) {
            faults.extend(self.snapshots().verify(&image.chain())?);
        }
        Ok(faults)
    }

    fn verify_blob(&self, digest: &Digest) -> Result<Option<String>> {
        let blob = match self.content().blob(digest) {
            Err(hako_content::Error::Missing(_)) => {
                return Ok(Some(format!("blob {digest} is not in the store")));
            }
            blob => blob?,
        };
        let actual = blob.digest(digest.algorithm())?;
        Ok((actual != *digest).then(|| format!("blob {digest}: content is {actual}")))
    }
}
