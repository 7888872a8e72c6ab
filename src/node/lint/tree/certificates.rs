//! Certificates that lie in a tree: beside no `hosts.toml`, where Docker's rules for names hold, and in another directory than
//! the one whose mirror needs them.

use std::collections::BTreeSet;
use std::path::Path;

use super::names::{has_end, looks_like_registry};
use super::{HostsTree, TreeFindings};
use crate::document::{Severity, toml};
use crate::node::hosts::{FILE_NAME, HostOrigin, HostsFile, Version, directory};
use crate::node::lint::{Certificate, DirEntry, LintOptions, NodeFile, NodeFiles};

impl HostsTree<'_> {
    /// A folder without a file: certificates by Docker's rules for names.
    pub(super) fn certificates(
        &self,
        findings: &mut TreeFindings<'_>,
        folder: &str,
        entries: &[DirEntry],
        files: &dyn NodeFiles,
    ) {
        let effect = format!("every pull from {folder} fails");
        let root = self.root.join(folder);
        let names: BTreeSet<&str> =
            entries.iter().filter(|entry| !entry.is_folder).map(|entry| entry.name.as_str()).collect();
        for name in &names {
            let path = root.join(name);
            if has_end(name, "crt") {
                let key = format!("{}.key", name.trim_end_matches(".crt"));
                if names.contains(key.as_str())
                    && files.client(&path, &path, &root.join(&key)) == Certificate::Good
                {
                    let words = [
                        format!("{name} stands beside its key {key}"),
                        "a .crt is taken for an authority: the client certificate is not shown".to_owned(),
                        format!("rename it to {}.cert", name.trim_end_matches(".crt")),
                    ];
                    findings.at(&path, Severity::Warning, "client-certificate-name", words);
                } else if let Certificate::Bad(why) = files.authorities(&path, &path) {
                    let fix = "put the authority's certificate there as PEM".to_owned();
                    findings.at(&path, Severity::Error, "certificate-unusable", [why, effect.clone(), fix]);
                }
            } else if matches!(
                Path::new(name).extension().and_then(|it| it.to_str()),
                Some("pem" | "cer" | "ca")
            ) && looks_like_registry(folder)
                && !names.iter().any(|name| has_end(name, "crt"))
                && files.authorities(&path, &path) == Certificate::Good
            {
                let stem = Path::new(name).with_extension("crt");
                let words = [
                    format!(
                        "{name} holds a certificate, and only names that end in .crt are read as authorities"
                    ),
                    format!("the authority is not trusted: pulls from {folder} fail, or go elsewhere"),
                    format!("rename it to {}, or name it in a {FILE_NAME}", stem.display()),
                ];
                findings.at(&path, Severity::Error, "misnamed-file", words);
            } else if has_end(name, "cert") {
                let key = path.with_extension("key");
                let key =
                    if names.contains(key.file_name().and_then(|name| name.to_str()).unwrap_or_default()) {
                        key
                    } else {
                        path.clone()
                    };
                if let Certificate::Bad(why) = files.client(&path, &path, &key) {
                    let fix = format!("put the key into {}", path.with_extension("key").display());
                    findings.at(&path, Severity::Error, "certificate-unusable", [why, effect.clone(), fix]);
                }
            }
        }
    }

    /// The authority of a mirror that lies only in the mirror's own directory.
    pub(super) fn authorities_elsewhere(&self, findings: &mut TreeFindings<'_>, options: &LintOptions) {
        let version = options.containerd.unwrap_or(Version::NEWEST);
        for (name, source) in &self.files {
            let Ok(file) = HostsFile::parse(&source.text, version) else { continue };
            let upstream = directory::upstream(name).unwrap_or_default();
            let hosts = file.resolve(&upstream, Path::new(""), version);
            for host in hosts.iter().filter(|host| host.origin == HostOrigin::Table) {
                let trusts = !host.ca.is_empty() || host.skip_verify || host.scheme != "https";
                if trusts || host.authority == upstream {
                    continue;
                }
                let own = [directory::preferred(&host.authority), host.authority.clone()];
                let own = own.into_iter().find(|own| self.folders.contains_key(own) && own != name);
                let Some(own) = own else { continue };
                let Some(ca) = self.authority_in(&own) else { continue };
                let words = [
                    format!("{} has no ca here, and {ca} lies in {own}", host.authority),
                    format!(
                        "that is used for images named {}/… alone: as a mirror, its certificate is not trusted, and the upstream is asked",
                        host.authority
                    ),
                    format!("write ca = \"../{own}/{ca}\" below its [host] line"),
                ];
                findings.add(Severity::Warning, "ca-elsewhere", name, words);
            }
        }
    }

    /// A file with an authority that a directory names.
    fn authority_in(&self, folder: &str) -> Option<String> {
        let ca = |file: &&NodeFile| {
            let document = toml::read(&file.text).ok()?;
            document.get("ca")?.texts().first().map(|(path, _)| (*path).to_owned())
        };
        if let Some(file) = self.files.get(folder) {
            return ca(file);
        }
        let entries = self.folders.get(folder)?;
        entries.iter().find(|entry| has_end(&entry.name, "crt")).map(|entry| entry.name.clone())
    }
}
