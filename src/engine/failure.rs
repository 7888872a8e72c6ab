//! An error of a registry as a [`Failure`] of a run: the report knows no registries.

use crate::registry::{Kind, RegistryError};
use crate::report::{Class, Failure};

impl From<Kind> for Class {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Usage => Self::Usage,
            Kind::Auth => Self::Auth,
            Kind::Denied => Self::Denied,
            Kind::NotFound => Self::NotFound,
            Kind::Unreachable => Self::Unreachable,
            Kind::Broken => Self::BrokenConnection,
            Kind::Stalled => Self::Stalled,
            Kind::Tls => Self::Tls,
            Kind::TooLarge => Self::TooLarge,
            Kind::Registry => Self::Registry,
            Kind::Integrity => Self::Integrity,
            // The bundle's own error says more, where there is one.
            Kind::Source => Self::Io,
            Kind::Internal => Self::Internal,
        }
    }
}

impl From<&RegistryError> for Failure {
    fn from(error: &RegistryError) -> Self {
        if let Some(bundle) = error.source_error() {
            return Self::from(bundle);
        }
        Self {
            class: error.kind().into(),
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
