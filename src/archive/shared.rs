//! Serialises an `Arc` as what it holds, once for each owner, for `#[serde(with)]`.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<T: Serialize, S: Serializer>(shared: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
    shared.as_ref().serialize(to)
}

pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Arc<T>, D::Error> {
    T::deserialize(from).map(Arc::new)
}

/// The same for what may not be there.
pub(super) mod option {
    use super::{Arc, Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(in crate::archive) fn serialize<T: Serialize + ?Sized, S: Serializer>(
        shared: &Option<Arc<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        shared.as_deref().serialize(to)
    }

    pub(in crate::archive) fn deserialize<'de, T, D>(from: D) -> Result<Option<Arc<T>>, D::Error>
    where
        T: ToOwned + ?Sized,
        T::Owned: Deserialize<'de>,
        Arc<T>: From<T::Owned>,
        D: Deserializer<'de>,
    {
        Ok(Option::<T::Owned>::deserialize(from)?.map(Arc::from))
    }
}
