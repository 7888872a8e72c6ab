//! Where bytes lie, in a form that holds in the next run: offsets in spaces that are named by their origin.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Home, OpenVolume, Unkept};
use crate::source::{ByteSpace, Extent, LateFile, LazySpace, Origin, read_exact};

/// Bytes embedded in documents are kept up to this length each.
const MAX_INLINE_BYTES: u64 = 1 << 20;
/// Archives inside archives inside archives; the reader of archives allows fewer.
const MAX_SPACES: usize = 1_000_000;

/// Where bytes begin. How many there are is known where the offset is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct SpaceOffset {
    space: u32,
    offset: u64,
}

/// Space 0 is the bundle's own volume; these follow from 1 on, each made from earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Space {
    /// The decoded form of stored bytes: where they begin, and their number.
    Decoded(SpaceOffset, u64),
    /// A file, relative to the folder.
    File(String),
    /// The bytes themselves.
    Inline(#[serde(with = "crate::oci::raw")] Bytes),
}

const BUNDLE: u32 = 0;

/// Writes extents as offsets in spaces.
#[derive(Debug)]
pub(super) struct SpaceEncoder<'a> {
    folder: Option<&'a Path>,
    spaces: Vec<Space>,
    numbers: HashMap<Space, u32>,
}

impl<'a> SpaceEncoder<'a> {
    pub(super) fn new(folder: Option<&'a Path>) -> Self {
        Self { folder, spaces: Vec::new(), numbers: HashMap::new() }
    }

    /// The spaces that were needed.
    pub(super) fn spaces(self) -> Vec<Space> {
        self.spaces
    }

    /// The offset of an extent of this size.
    pub(super) fn of(&mut self, extent: &Extent, size: u64) -> Result<SpaceOffset, Unkept> {
        if extent.len().ok() != Some(size) {
            return Err(Unkept::Place);
        }
        self.range(extent, 0, size)
    }

    /// A range of any space as one of a space that stands by itself.
    fn range(&mut self, space: &dyn ByteSpace, offset: u64, len: u64) -> Result<SpaceOffset, Unkept> {
        let space = match space.origin() {
            Some(Origin::Bundle) => return Ok(SpaceOffset { space: BUNDLE, offset }),
            Some(Origin::Decoded(stored)) => {
                let stored_len = stored.len().map_err(|_| Unkept::Place)?;
                Space::Decoded(self.range(stored.as_ref(), 0, stored_len)?, stored_len)
            }
            Some(Origin::File(path)) => Space::File(self.relative(path)?),
            None => match space.within() {
                Some((parent, at)) => {
                    let offset = offset.checked_add(at).ok_or(Unkept::Place)?;
                    return self.range(parent.as_ref(), offset, len);
                }
                // No file and no volume: bytes that a document of the bundle embeds.
                None if len <= MAX_INLINE_BYTES => {
                    let len = usize::try_from(len).map_err(|_| Unkept::Place)?;
                    let bytes = read_exact(space, offset, len).map_err(|_| Unkept::Place)?;
                    return Ok(SpaceOffset { space: self.number(Space::Inline(bytes))?, offset: 0 });
                }
                None => return Err(Unkept::Place),
            },
        };
        Ok(SpaceOffset { space: self.number(space)?, offset })
    }

    fn relative(&self, path: &Path) -> Result<String, Unkept> {
        let path = self.folder.and_then(|root| path.strip_prefix(root).ok());
        path.and_then(Path::to_str).map(str::to_owned).ok_or(Unkept::Place)
    }

    fn number(&mut self, space: Space) -> Result<u32, Unkept> {
        if let Some(number) = self.numbers.get(&space) {
            return Ok(*number);
        }
        self.spaces.push(space.clone());
        if self.spaces.len() > MAX_SPACES {
            return Err(Unkept::TooLarge);
        }
        let number = u32::try_from(self.spaces.len()).map_err(|_| Unkept::TooLarge)?;
        self.numbers.insert(space, number);
        Ok(number)
    }
}

/// The spaces of a catalog that came back; none of them opened.
pub(super) struct Spaces(Vec<Option<Arc<dyn ByteSpace>>>);

impl Spaces {
    pub(super) fn new(kept: Vec<Space>, home: &Home, open: &Arc<OpenVolume>) -> Result<Self, Unkept> {
        let mut spaces = Self(vec![match home {
            Home::Volume(space) => Some(Arc::clone(space)),
            Home::Folder(_) => None,
        }]);
        for space in kept {
            let made: Arc<dyn ByteSpace> = match space {
                Space::Decoded(place, len) => {
                    let stored: Arc<dyn ByteSpace> = Arc::new(spaces.extent(place, len)?);
                    let open = Arc::clone(open);
                    Arc::new(LazySpace::new(move || open(Arc::clone(&stored))))
                }
                Space::File(path) => {
                    let path = home.folder().and_then(|root| inside(root, &path)).ok_or(Unkept::Damaged)?;
                    Arc::new(LazySpace::new(move || Ok(Arc::new(LateFile::new(&path)?))))
                }
                Space::Inline(bytes) => Arc::new(bytes),
            };
            spaces.0.push(Some(made));
        }
        Ok(spaces)
    }

    pub(super) fn extent(&self, place: SpaceOffset, len: u64) -> Result<Extent, Unkept> {
        place.offset.checked_add(len).ok_or(Unkept::Damaged)?;
        let number = usize::try_from(place.space).map_err(|_| Unkept::Damaged)?;
        let space = self.0.get(number).and_then(Option::as_ref).ok_or(Unkept::Damaged)?;
        Ok(Extent::new(Arc::clone(space), place.offset, len))
    }
}

/// A path below the folder, unless it leads out of it.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| root.join(path))
}
