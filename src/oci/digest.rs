//! Content digests: `sha256:…` and `sha512:…`, parsed strictly
//! ([image-spec, digests](https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests)).

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

use crate::error::{BundleError, Fault};

/// A content digest. Small enough to copy, and valid by construction: it can become a path or a URL as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256, what nearly everything uses.
    Sha256([u8; 32]),
    /// SHA-512, the other registered algorithm.
    Sha512([u8; 64]),
}

/// The registered algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `sha256`
    Sha256,
    /// `sha512`
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(bytes).into())
    }

    /// The digest of `bytes` by the algorithm of this one.
    #[must_use]
    pub(crate) fn of_same_kind(&self, bytes: &[u8]) -> Self {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether `bytes` have this digest.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        self.of_same_kind(bytes) == *self
    }

    /// A hasher of this digest's algorithm.
    pub(crate) fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm())
    }

    /// The algorithm.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The part after the colon, lower-case hexadecimal.
    pub fn hex(&self) -> String {
        let bytes: &[u8] = match self {
            Self::Sha256(b) => b,
            Self::Sha512(b) => b,
        };
        let mut out = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            out.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        out
    }

    /// Twelve characters for people's eyes, as `sha256:12ab34cd56ef`.
    pub(crate) fn short(&self) -> String {
        format!("{}:{}", self.algorithm().name(), &self.hex()[..12])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text for people, its bytes elsewhere.
impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        serializer.serialize_bytes(match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        })
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
            return text.parse().map_err(serde::de::Error::custom);
        }
        // Its length tells the algorithm.
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let sha512 = || bytes.try_into().map(Self::Sha512);
        let digest = bytes.try_into().map(Self::Sha256).or_else(|_| sha512());
        digest.map_err(|_| serde::de::Error::invalid_length(bytes.len(), &"the bytes of a digest"))
    }
}

impl FromStr for Digest {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        let bad = |why: &str| BundleError::new(Fault::BadDigest, format!("{text:?} is not a digest: {why}"));
        let (algorithm, hex) = text.split_once(':').ok_or_else(|| bad("no algorithm before a colon"))?;
        match algorithm {
            "sha256" => Ok(Self::Sha256(unhex(hex).map_err(bad)?)),
            "sha512" => Ok(Self::Sha512(unhex(hex).map_err(bad)?)),
            _ => Err(bad("the algorithm is neither sha256 nor sha512")),
        }
    }
}

fn unhex<const N: usize>(hex: &str) -> Result<[u8; N], &'static str> {
    if hex.len() != N * 2 {
        return Err("the length is not that of the algorithm");
    }
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err("only lower-case hexadecimal digits are allowed"),
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(out)
}

/// Hashes bytes as they pass.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// SHA-256
    Sha256(Sha256),
    /// SHA-512
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(h) => h.update(bytes),
            Self::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(h) => Digest::Sha256(h.finalize().into()),
            Self::Sha512(h) => Digest::Sha512(h.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        assert!(empty.parse::<Digest>().unwrap().matches(b""));
    }

    #[test]
    fn what_is_not_a_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [
            hex.to_owned(),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{}", hex.to_uppercase()),
            format!("md5:{hex}"),
            format!("sha512:{hex}"),
            format!("sha256:../../{}", &hex[6..]),
            format!("sha256:{}\0", &hex[1..]),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err().fault(), Fault::BadDigest, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in ".{0,90}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
