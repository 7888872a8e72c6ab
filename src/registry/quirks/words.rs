//! The quirks of a host in words.

use super::{Keeping, Quirks, UploadMethod};
use crate::units::ByteCount;

/// What is kept of a host, for people.
pub(crate) fn quirks_in_words(kept: &str) -> Vec<String> {
    let Ok(quirks) = serde_json::from_str::<Quirks>(kept) else {
        return vec!["what this version does not understand".to_owned()];
    };
    let mut words = Vec::new();
    match quirks.keeping {
        Keeping::Unknown => {}
        Keeping::NotPut | Keeping::Nothing => words.push("loses an upload that breaks off".to_owned()),
        Keeping::Chunks => words.push("keeps whole chunks of an upload that breaks off".to_owned()),
        Keeping::Bytes => words.push("keeps every byte of an upload that breaks off".to_owned()),
    }
    words.extend(quirks.most_bytes().map(|most| format!("takes {} in one request", ByteCount(most))));
    words.extend(quirks.least_chunk.map(|least| format!("asks for chunks of {}", ByteCount(least))));
    words.extend(quirks.bytes_per_second.map(|rate| format!("{} a second for one blob", ByteCount(rate))));
    for (is_so, what) in [
        (quirks.upload == UploadMethod::Stream, "takes blobs by PATCH"),
        (quirks.refuses_chunks, "takes no chunks"),
        (quirks.refuses_empty_commit, "wants bytes with each commit"),
        (quirks.slow_requests_break, "breaks requests that take long"),
        (quirks.keeps_sessions, "lets the account cancel no upload"),
        (!quirks.mounts(), "mounts nothing"),
    ] {
        if is_so {
            words.push(what.to_owned());
        }
    }
    words
}
