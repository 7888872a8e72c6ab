//! JSON documents of a bundle, and what is wrong with those that are none.

use bytes::Bytes;
use serde::Deserialize;

use crate::error::{BundleError, Fault};

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads JSON from a bundle; the error says what the bytes are instead, or where in the document it broke.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BundleError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = what_is_wrong(bytes).unwrap_or_else(|| error.to_string());
        BundleError::new(Fault::BadJson, format!("not the JSON it should be: {why}"))
    })
}

/// What bytes are that are no JSON at all; none where they are JSON, or where only its own words tell what is wrong.
pub(crate) fn what_is_wrong(bytes: &[u8]) -> Option<String> {
    let text = bytes.trim_ascii_start();
    Some(if bytes.is_empty() {
        "it is empty".to_owned()
    } else if bytes.iter().all(|&byte| byte == 0) {
        format!("it is {} zeros", bytes.len())
    } else if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || has_blank_halves(bytes)
    {
        "it is UTF-16 text, where UTF-8 must be".to_owned()
    } else if text.starts_with(b"<") {
        "it is a web page or XML".to_owned()
    } else {
        let error = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).err()?;
        if !error.is_eof() {
            return bytes.starts_with(UTF8_MARK).then(|| "it begins with a byte order mark".to_owned());
        }
        format!("it was cut: it ends at byte {}, in the middle", bytes.len())
    })
}

/// The document without the mark that editors of Windows put before UTF-8.
pub(crate) fn without_mark(bytes: Bytes) -> Bytes {
    if bytes.starts_with(UTF8_MARK) { bytes.slice(UTF8_MARK.len()..) } else { bytes }
}

/// Whether the first character is of ASCII, and of two bytes.
fn has_blank_halves(bytes: &[u8]) -> bool {
    matches!(bytes, [0, b'{' | b'[', 0, ..] | [b'{' | b'[', 0, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_called_what_it_is() {
        let utf_16: Vec<u8> = "[{}]".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (b"\0\0\0", "3 zeros"),
            (&utf_16, "UTF-16"),
            (b"\xff\xfe[\0", "UTF-16"),
            (b"\xfe\xff\0[", "UTF-16"),
            (b"\n<html>", "web page"),
            (br#"[{"Config":"#, "cut: it ends at byte 11"),
            (b"[1] x", "trailing characters at line 1"),
            (b"\xef\xbb\xbf[]", "byte order mark"),
        ] {
            let error = parse_json::<serde_json::Value>(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(what_is_wrong(b"null"), None);
        assert_eq!(without_mark(Bytes::from_static(b"\xef\xbb\xbf[]")), "[]");
        assert_eq!(without_mark(Bytes::from_static(b"[]")), "[]");
    }
}
