//! Sums of bundles, as `sha256sum` writes them into a file beside a bundle.

use std::path::Path;

use crate::oci::Digest;

/// The sum of a file in what `sha256sum` (with or without `--tag`) wrote.
pub(super) fn sum_of(path: &Path, text: &str) -> Result<Digest, String> {
    let lines: Vec<(&str, &str)> = text.lines().filter_map(sum_line).collect();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_named = |named: &str| named.is_empty() || named.rsplit('/').next() == Some(name.as_str());
    let found = lines.iter().find(|(_, named)| is_named(named));
    let (hex, _) = found.ok_or_else(|| format!("it has no sum of {name}"))?;
    format!("sha256:{}", hex.to_ascii_lowercase())
        .parse()
        .map_err(|error: crate::error::BundleError| error.to_string())
}

/// `HEX  NAME`, `HEX *NAME`, `SHA256 (NAME) = HEX`, `HEX`: the sum and the name.
fn sum_line(line: &str) -> Option<(&str, &str)> {
    // A backslash in front says that some are in the name.
    let line = line.trim_end().trim_start_matches('\\');
    if let Some(rest) = line.strip_prefix("SHA256 (") {
        let (name, hex) = rest.rsplit_once(") = ")?;
        return is_sum(hex).then_some((hex, name));
    }
    let (hex, name) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    is_sum(hex).then(|| (hex, name.trim_start_matches([' ', '*'])))
}

fn is_sum(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}
