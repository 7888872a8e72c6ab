//! The storage of a registry (distribution's `docker/registry/v2`), as mindthegap and oc-mirror put it into bundles.
//!
//! Tags are links to manifests, blobs lie by digest. There is no host: the names come out as [`ImageName::Hostless`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::archive::Listed;
use crate::archive::catalog::{BrokenImage, ImageName};
use crate::archive::pool::{Pool, ends_the_bundle};
use crate::archive::tree::Tree;
use crate::error::{BundleError, Fault, printable};
use crate::oci::{Descriptor, Digest};

/// A link is a digest and perhaps a line feed.
const MAX_LINK_BYTES: u64 = 256;

const REPOSITORIES: &str = "repositories/";

/// The folders of a tree below which a registry keeps its `repositories/` and `blobs/`.
pub(super) fn folders(tree: &Tree<'_>) -> BTreeSet<String> {
    tree.paths().filter_map(|path| parse(path).map(|tag| tag.folder.to_owned())).collect()
}

struct TagLink<'p> {
    folder: &'p str,
    repository: &'p str,
    tag: &'p str,
}

/// `<folder>v2/repositories/<repository>/_manifests/tags/<tag>/current/link`
fn parse(path: &str) -> Option<TagLink<'_>> {
    let (repository, tag) = path.strip_suffix("/current/link")?.rsplit_once("/_manifests/tags/")?;
    let at = repository.find("v2/repositories/").filter(|&at| at == 0 || repository[..at].ends_with('/'))?;
    let (folder, repository) = repository.split_at(at + "v2/".len());
    Some(TagLink { folder, repository: repository.strip_prefix(REPOSITORIES)?, tag })
}

/// The tagged images of the registry at `folder`, in the order of their names. A link that cannot be read costs its tag
/// and no other; it goes to `broken`.
pub(super) fn read(
    tree: &Tree<'_>,
    folder: &str,
    pool: &mut Pool<'_>,
    broken: &mut Vec<BrokenImage>,
) -> Result<Vec<Listed>, BundleError> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut known: HashMap<Digest, usize> = HashMap::new();
    let prefix = format!("{folder}{REPOSITORIES}");
    for path in tree.below(&prefix) {
        let Some(link) = parse(path).filter(|link| link.folder == folder) else { continue };
        let label = printable(&format!("{}:{}", link.repository, link.tag));
        match tagged(tree, path, &link, pool, label.clone()) {
            Ok(image) => {
                let at = *known.entry(image.digest).or_insert(listed.len());
                match listed.get_mut(at) {
                    Some(same) => same.add_names(image.names),
                    None => listed.push(image),
                }
            }
            Err(error) if ends_the_bundle(error.fault()) => return Err(error),
            Err(error) => broken.push(BrokenImage { name: label, error: error.at(path) }),
        }
    }
    Ok(listed)
}

fn tagged(
    tree: &Tree<'_>,
    path: &str,
    link: &TagLink<'_>,
    pool: &mut Pool<'_>,
    label: String,
) -> Result<Listed, BundleError> {
    let name = ImageName::Hostless(link.repository.parse()?, link.tag.parse()?);
    let bytes = tree.read_small(path, MAX_LINK_BYTES)?.unwrap_or_default();
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| BundleError::new(Fault::BadDigest, "the link is not text"))?;
    let digest: Digest = text.trim().parse()?;
    let size = pool.stored_bytes(&digest)?.ok_or_else(|| {
        BundleError::new(Fault::MissingBlob, format!("manifest {digest} is not in the bundle"))
    })?;
    let top = Descriptor {
        media_type: String::new(),
        digest,
        size,
        urls: Vec::new(),
        annotations: BTreeMap::new(),
        platform: None,
    };
    let fault = pool.visit(&top)?.err();
    Ok(Listed { label, names: vec![name], digest, annotations: BTreeMap::new(), fault, replaced: false })
}
