//! What a registry holds, and the right answers about it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::build::digest;
use super::{Answer, Request};

/// In each answer that opens or goes on with an upload: whoever has it may write.
pub(crate) const SESSION_SECRET: &str = "canary-session-7f3a";

type Named = (String, String);

#[derive(Default)]
pub(crate) struct Store {
    pub(super) is_strict: bool,
    /// It gives blobs as a whole alone.
    pub(crate) gives_no_ranges: bool,
    /// Digests by repository.
    blobs: BTreeSet<Named>,
    content: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<Named, (String, Vec<u8>)>,
    /// Digests by repository and tag.
    pub(crate) tags: BTreeMap<Named, String>,
    sessions: BTreeMap<String, Vec<u8>>,
    opened: usize,
    /// Tags that were moved to an image that was not complete at that moment.
    pub(crate) shown_incomplete: Vec<String>,
}

impl Store {
    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        let path = request.path.strip_prefix("/v2/").unwrap_or_default();
        if path.is_empty() {
            return Answer::json(200, &json!({}));
        }
        let method = request.method.as_str();
        if let Some((repository, session)) = path.split_once("/blobs/uploads/") {
            return self.upload(repository, session, request);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            let known = self.blobs.contains(&(repository.to_owned(), digest.to_owned()));
            let from = request.header("range").strip_prefix("bytes=").and_then(|it| it.strip_suffix('-'));
            let from: Option<usize> =
                from.filter(|_| !self.gives_no_ranges).and_then(|from| from.parse().ok());
            return match (method, self.content.get(digest).filter(|_| known)) {
                ("GET", Some(content)) if from.is_some_and(|from| from < content.len()) => {
                    let (from, len) = (from.unwrap_or(0), content.len());
                    Answer::status(206)
                        .header("Content-Range", &format!("bytes {from}-{}/{len}", len - 1))
                        .body(content[from..].to_vec())
                }
                ("GET" | "HEAD", Some(content)) => Answer::status(200)
                    .header("Content-Length", &content.len().to_string())
                    .header("Docker-Content-Digest", digest)
                    .body(content.clone()),
                ("GET" | "HEAD", None) => Answer::error(404, "BLOB_UNKNOWN", "no such blob"),
                _ => Answer::error(405, "UNSUPPORTED", "not here"),
            };
        }
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            return match method {
                "PUT" => self.put_manifest(repository, reference, request),
                "GET" | "HEAD" => self.manifest(repository, reference),
                _ => Answer::error(405, "UNSUPPORTED", "not here"),
            };
        }
        Answer::error(404, "NAME_UNKNOWN", "no such page")
    }

    fn upload(&mut self, repository: &str, session: &str, request: &Request) -> Answer {
        match request.method.as_str() {
            "POST" => {
                if let Some(mounted) = request.parameter("mount")
                    && self.content.contains_key(&mounted)
                {
                    return self.add_blob(repository, &mounted, None);
                }
                if let Some(digest) = request.parameter("digest") {
                    return self.add_blob(repository, &digest, Some(request.body.clone()));
                }
                self.opened += 1;
                let id = format!("{repository}-{}", self.opened).replace('/', "-");
                self.sessions.insert(id.clone(), Vec::new());
                located(202, repository, &id, 0)
            }
            "PATCH" => {
                let Some(bytes) = self.sessions.get_mut(session) else { return no_session() };
                let from =
                    request.header("content-range").split('-').next().and_then(|from| from.parse().ok());
                if from.is_some_and(|from: usize| from != bytes.len()) {
                    return Answer::error(416, "RANGE_INVALID", "the upload stands elsewhere");
                }
                bytes.extend_from_slice(&request.body);
                located(202, repository, session, bytes.len())
            }
            "PUT" => {
                let Some(mut bytes) = self.sessions.remove(session) else { return no_session() };
                bytes.extend_from_slice(&request.body);
                self.add_blob(repository, &request.parameter("digest").unwrap_or_default(), Some(bytes))
            }
            "GET" => match self.sessions.get(session) {
                Some(bytes) => located(204, repository, session, bytes.len()),
                None => no_session(),
            },
            "DELETE" => match self.sessions.remove(session) {
                Some(_) => Answer::status(204),
                None => no_session(),
            },
            _ => Answer::error(405, "UNSUPPORTED", "not here"),
        }
    }

    fn add_blob(&mut self, repository: &str, named: &str, content: Option<Vec<u8>>) -> Answer {
        if let Some(content) = content {
            if digest(&content) != named {
                return Answer::error(400, "DIGEST_INVALID", "the content has another digest");
            }
            self.content.insert(named.to_owned(), content);
        }
        self.blobs.insert((repository.to_owned(), named.to_owned()));
        Answer::status(201)
            .header("Location", &format!("/v2/{repository}/blobs/{named}"))
            .header("Docker-Content-Digest", named)
    }

    fn put_manifest(&mut self, repository: &str, reference: &str, request: &Request) -> Answer {
        let named = digest(&request.body);
        if reference.contains(':') && reference != named {
            return Answer::error(400, "DIGEST_INVALID", "the manifest has another digest");
        }
        let kept = (request.header("content-type").to_owned(), request.body.clone());
        let lacks = self.lacks_of(repository, &kept.1);
        if self.is_strict && !lacks.is_empty() {
            return Answer::error(400, "MANIFEST_BLOB_UNKNOWN", &lacks.join(", "));
        }
        self.manifests.insert((repository.to_owned(), named.clone()), kept);
        if !reference.contains(':') {
            if !lacks.is_empty() {
                self.shown_incomplete.push(format!("{repository}:{reference} lacks {}", lacks.join(", ")));
            }
            self.tags.insert((repository.to_owned(), reference.to_owned()), named.clone());
        }
        Answer::status(201)
            .header("Location", &format!("/v2/{repository}/manifests/{named}"))
            .header("Docker-Content-Digest", &named)
    }

    fn manifest(&self, repository: &str, reference: &str) -> Answer {
        let name = (repository.to_owned(), reference.to_owned());
        let named = self.tags.get(&name).cloned().unwrap_or(name.1);
        match self.manifests.get(&(name.0, named.clone())) {
            Some((media_type, bytes)) => Answer::status(200)
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", &named)
                .header("Content-Length", &bytes.len().to_string())
                .body(bytes.clone()),
            None => Answer::error(404, "MANIFEST_UNKNOWN", "no such manifest"),
        }
    }

    /// What a manifest of this repository names and the repository does not have, whole and right.
    fn lacks(&self, repository: &str, named: &str) -> Vec<String> {
        match self.manifests.get(&(repository.to_owned(), named.to_owned())) {
            Some((_, bytes)) if digest(bytes) == named => self.lacks_of(repository, bytes),
            _ => vec![named.to_owned()],
        }
    }

    fn lacks_of(&self, repository: &str, manifest: &[u8]) -> Vec<String> {
        let manifest: Value = serde_json::from_slice(manifest).unwrap();
        let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
        let name = |part: &Value| part["digest"].as_str().unwrap_or_default().to_owned();
        let mut lacks: Vec<String> =
            list("manifests").iter().flat_map(|child| self.lacks(repository, &name(child))).collect();
        let blobs = list("layers").into_iter().chain(manifest.get("config").cloned());
        lacks.extend(blobs.map(|blob| name(&blob)).filter(|named| {
            !self.blobs.contains(&(repository.to_owned(), named.clone()))
                || self.content.get(named).is_none_or(|content| digest(content) != *named)
        }));
        lacks
    }

    /// Names of images that it shows, as `repository:tag`.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.tags.keys().map(|(repository, tag)| format!("{repository}:{tag}")).collect()
    }

    /// The content that it has, with its sizes.
    pub(crate) fn sizes(&self) -> BTreeMap<String, usize> {
        self.content.iter().map(|(digest, content)| (digest.clone(), content.len())).collect()
    }

    /// What is wrong with what it shows now, or was at the moment when a tag was moved.
    pub(crate) fn faults(&self) -> Vec<String> {
        let now = self.tags.iter().flat_map(|((repository, tag), digest)| {
            let lacks = self.lacks(repository, digest);
            lacks.into_iter().map(move |lack| format!("{repository}:{tag} lacks {lack} at the end"))
        });
        self.shown_incomplete.iter().cloned().chain(now).collect()
    }

    /// Loses a manifest that is no index, with the blobs that no other manifest names; the first is 0.
    pub(crate) fn lose_manifest(&mut self, number: usize) {
        let is_image = |bytes: &[u8]| !String::from_utf8_lossy(bytes).contains("\"manifests\"");
        let mut images = self.manifests.iter().filter(|(_, kept)| is_image(&kept.1));
        let Some((name, _)) = images.nth(number) else { return };
        let name = name.clone();
        self.manifests.remove(&name);
        let named: String = self.manifests.values().map(|kept| String::from_utf8_lossy(&kept.1)).collect();
        self.blobs.retain(|(_, digest)| named.contains(digest));
        self.content.retain(|digest, _| named.contains(digest));
    }

    /// Loses every blob, and keeps the manifests that name them.
    pub(crate) fn lose_blobs(&mut self) {
        self.blobs.clear();
        self.content.clear();
    }

    /// Turns a bit in every blob.
    pub(crate) fn rot(&mut self) {
        self.content.values_mut().filter_map(|content| content.first_mut()).for_each(|byte| *byte ^= 1);
    }

    /// Loses everything but its name.
    pub(crate) fn empty(&mut self) {
        *self = Self { is_strict: self.is_strict, ..Self::default() };
    }
}

fn located(status: u16, repository: &str, session: &str, len: usize) -> Answer {
    let location = format!("/v2/{repository}/blobs/uploads/{session}?_state={SESSION_SECRET}");
    let range = format!("0-{}", len.saturating_sub(1));
    Answer::status(status).header("Location", &location).header("Range", &range)
}

fn no_session() -> Answer {
    Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
}
