//! From config.json to the list of steps, without touching the system.

use std::path::Path;

use hako_oci::runtime::Spec;

use crate::{Options, Result};

/// Everything that creating a container will do, decided and checked.
#[derive(Debug)]
pub struct Plan {
    pub(crate) options: Options,
}

impl Plan {
    /// Checks the whole configuration and prepares every step. Pure: it looks at nothing but its
    /// arguments. `bundle` is the absolute directory that relative paths start from.
    pub fn new(spec: &Spec, bundle: &Path, options: &Options) -> Result<Plan> {
        let (_, _) = (spec, bundle);
        Ok(Plan { options: options.clone() })
    }

    /// The container's ID.
    pub fn id(&self) -> &str {
        &self.options.id
    }
}
