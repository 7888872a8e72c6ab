//! An error of a registry as a [`Failure`] of a run: the report knows no registries.

use crate::registry::RegistryError;
use crate::report::Failure;

impl From<&RegistryError> for Failure {
    fn from(error: &RegistryError) -> Self {
        Self {
            class: error.kind().class(),
            message: error.to_string(),
            hint: error.hint(),
            exit: error.exit(),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::from(&error)
    }
}
