//! Damaged and random bytes, and what is read of a bundle at all.

use super::*;

#[test]
fn damage_to_the_container_is_an_error_for_all() {
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &["one"]), "x.io/a:1");
    let fault = |files: &[(String, Vec<u8>)]| read_tar(tar_of(files)).unwrap_err().fault();
    let mut files = blobs.layout("", &[image]);
    assert_eq!(read_tar(tar_of(&files)[..1600].to_vec()).unwrap_err().fault(), Fault::Truncated);
    files[1].1.truncate(30);
    assert_eq!(fault(&files), Fault::BadJson);
    files[0].1 = br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec();
    assert_eq!(fault(&files), Fault::Unsupported);
    let twice = [tar_of(&saved("a:1", &["x"])), tar_of(&saved("b:1", &["x"]))].concat();
    assert_eq!(read_tar(twice).unwrap_err().fault(), Fault::Unsupported);
}

/// A space that tells which blocks of it were read.
#[derive(Debug)]
struct Watched(Bytes, crate::locks::Mutex<u64>);

impl ByteSpace for Watched {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.0.len() as u64)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let chunk = self.0.chunk_at(offset, max)?;
        *self.1.lock() += chunk.len() as u64;
        Ok(chunk)
    }
}

#[test]
fn layers_are_not_read_and_the_last_of_two_members_counts() {
    let big = "x".repeat(3 << 20);
    let mut blobs = Blobs::default();
    let image = named(blobs.image("a", &[&big]), "x.io/a:1");
    let mut files = blobs.layout("", &[image]);
    let layout = files[0].clone();
    files.insert(0, (layout.0, b"not this one".to_vec()));
    let watched = Arc::new(Watched(tar_of(&files).into(), crate::locks::Mutex::default()));
    let space: Arc<dyn ByteSpace> = Arc::<Watched>::clone(&watched);
    let catalog = read(&space, &opener, &Limits::default(), &|_| {}).unwrap();
    assert_eq!(catalog.images.len(), 1);
    assert!(*watched.1.lock() < 16 << 10);
}

fn everything() -> Vec<u8> {
    let mut blobs = Blobs::default();
    let (amd, arm) = (blobs.image("amd", &["one"]), blobs.image("arm", &["two"]));
    let index = blobs.index(&[on(amd.clone(), "amd64"), on(arm, "arm64")]);
    let mut files = blobs.layout("", &[named(index, "x.io/a:1"), named(amd, "v1")]);
    files.extend(saved("x.io/b:1", &["three"]));
    files.push(("inner.tar".into(), tar_of(&saved("c:1", &["four"]))));
    tar_of(&files)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What is taken as whole is whole: each blob of the catalog lies in the bundle and has its length.
    #[test]
    fn damage_anywhere_is_survived(at in any::<prop::sample::Index>(), value: u8, cut in any::<Option<prop::sample::Index>>()) {
        let mut bytes = everything();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(catalog) = read_tar(bytes) {
            for blob in catalog.blobs.values() {
                let len = usize::try_from(blob.size).unwrap();
                prop_assert_eq!(read_exact(&blob.extent, 0, len).unwrap().len(), len);
            }
            for image in &catalog.images {
                if let Content::Manifest(digest) = &image.content {
                    prop_assert!(digest.matches(&catalog.manifests[digest].bytes));
                }
            }
        }
    }
}
