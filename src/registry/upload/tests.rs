//! How blobs get in, and what follows when they do not.

mod broken;
mod commit;
mod failures;
mod limits;
mod methods;
mod other_repository;
mod sessions;
