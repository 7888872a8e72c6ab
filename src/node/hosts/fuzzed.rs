//! Parsing an untrusted `hosts.toml`, for `fuzz/`.

use super::{HostsFile, Version};

/// Reads a file as each version of containerd does. What one takes whole has no fault.
///
/// # Panics
/// Both ways of reading it disagree.
pub fn hosts_toml(text: &str) {
    for version in
        [Version::HOSTS_TOML, Version::OVERRIDE_PATH, Version::new(1, 7, 0), Version::TWO, Version::NEWEST]
    {
        let (_, faults) = HostsFile::parse_all(text, version);
        assert_eq!(HostsFile::parse(text, version).is_ok(), faults.is_empty(), "{version:?}");
    }
}
