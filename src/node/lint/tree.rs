//! Trees of `hosts.toml` as a whole: files in the wrong place, names of directories, certificates that lie beside, and
//! directories that stand in each other's way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::config_set::ConfigSets;
use super::config_toml;
use super::{Certificate, DirEntry, FileKind, LintOptions, NodeFile, NodeFiles, NodePath, url};
use crate::document::{Finding, Findings, Severity, toml};
use crate::node::hosts::{FILE_NAME, HostOrigin, HostsFile, Version, directory, split_port};
use crate::units;

/// What trees are called, wherever they lie.
const CERTS_D: &str = "certs.d";

/// Where spegel puts what it found.
const BACKUP: &str = "_backup";

/// Whether a folder of a tree is nobody's registry: a copy that was put aside, or what Kubernetes keeps behind the links of a
/// mounted ConfigMap.
fn is_put_aside(name: &str) -> bool {
    name == BACKUP || name.starts_with("..")
}

/// All trees that were found.
pub(super) struct Trees<'a> {
    trees: Vec<HostsTree<'a>>,
}

/// What one tree holds.
struct HostsTree<'a> {
    place: NodePath,
    root: PathBuf,
    /// Each directory's file.
    files: BTreeMap<String, &'a NodeFile>,
    /// Files that are not in a directory of the tree.
    misplaced: Vec<&'a NodeFile>,
    /// What is in each directory, those without a file too.
    folders: BTreeMap<String, Vec<DirEntry>>,
}

/// The trees that files lie in, and those that a `config_path` names.
pub(super) fn find<'a>(sources: &'a [NodeFile], sets: &ConfigSets, files: &dyn NodeFiles) -> Trees<'a> {
    let mut roots: BTreeMap<PathBuf, Vec<&NodeFile>> = BTreeMap::new();
    let mut named: BTreeSet<PathBuf> = BTreeSet::new();
    for set in &sets.sets {
        for path in set.config_paths() {
            let folders = path.split(':').filter(|folder| folder.starts_with('/'));
            let found = folders.flat_map(|folder| files.matching(&set.files[0].path, folder));
            // A setting that names the folder of one registry has a finding of its own, with its tree.
            let is_of_one = |path: &Path| {
                path.parent().is_some_and(|parent| parent.ends_with(CERTS_D))
                    && files.entries(path).iter().any(|entry| entry.name == FILE_NAME)
            };
            named.extend(found.filter(|path| !files.entries(path).is_empty() && !is_of_one(path)));
        }
    }
    let ours = |source: &&NodeFile| matches!(source.kind, FileKind::HostsToml | FileKind::Stray);
    for source in sources.iter().filter(ours) {
        let is_root = |folder: &&Path| folder.ends_with(CERTS_D) || named.contains(*folder);
        let root = source.path.ancestors().skip(1).find(is_root);
        let root = root.or_else(|| source.path.parent()?.parent()).unwrap_or(Path::new("")).to_owned();
        let mut below = source.path.strip_prefix(&root).unwrap_or(&source.path).components();
        if below.any(|part| is_put_aside(&part.as_os_str().to_string_lossy())) {
            continue;
        }
        roots.entry(root).or_default().push(source);
    }
    for root in named {
        roots.entry(root).or_default();
    }
    let tree = |(root, sources): (PathBuf, Vec<&'a NodeFile>)| {
        let mut tree = HostsTree {
            place: files.place(&root),
            files: BTreeMap::new(),
            misplaced: Vec::new(),
            folders: BTreeMap::new(),
            root,
        };
        for source in sources.into_iter().filter(|source| source.kind == FileKind::HostsToml) {
            let folder = source.path.parent();
            let name = folder.and_then(Path::file_name).and_then(|name| name.to_str());
            match name.filter(|_| folder.and_then(Path::parent) == Some(&tree.root)) {
                Some(name) => _ = tree.files.insert(name.to_owned(), source),
                None => tree.misplaced.push(source),
            }
        }
        for entry in files
            .entries(&tree.root)
            .into_iter()
            .filter(|entry| entry.is_folder && !is_put_aside(&entry.name))
        {
            let inside = files.entries(&tree.root.join(&entry.name));
            tree.folders.insert(entry.name, inside);
        }
        tree
    };
    Trees { trees: roots.into_iter().map(tree).collect() }
}

impl Trees<'_> {
    /// Whether a file is where containerd would look for it.
    pub(super) fn is_in_place(&self, path: &Path) -> bool {
        self.trees.iter().any(|tree| tree.files.values().any(|file| file.path == path))
    }

    /// The trees of the node whose root is `root`; where it has none, those that have yet to be installed on one.
    pub(super) fn of_node(&self, root: Option<&Path>, roots: &BTreeSet<&Option<PathBuf>>) -> Vec<&NodePath> {
        let trees = || self.trees.iter().filter(|tree| tree.is_tree()).map(|tree| &tree.place);
        let here: Vec<&NodePath> = trees().filter(|tree| tree.root.as_deref() == root).collect();
        if here.is_empty() { trees().filter(|tree| !roots.contains(&tree.root)).collect() } else { here }
    }

    pub(super) fn check(&self, options: &LintOptions, files: &dyn NodeFiles) -> Vec<Finding> {
        self.trees.iter().flat_map(|tree| tree.check(options, files)).collect()
    }
}

/// Collects findings about files and folders of a tree.
struct TreeFindings<'a> {
    tree: &'a HostsTree<'a>,
    found: Vec<Finding>,
}

impl TreeFindings<'_> {
    fn at(&mut self, path: &Path, severity: Severity, rule: &'static str, words: [String; 3]) {
        let mut findings = Findings::new(path);
        findings.add(severity, rule, None, words);
        self.found.extend(findings.sorted());
    }

    /// About a directory, or the file in it.
    fn add(&mut self, severity: Severity, rule: &'static str, name: &str, words: [String; 3]) {
        let file = self.tree.files.get(name);
        let path = file.map_or_else(|| self.tree.root.join(name), |source| source.path.clone());
        self.at(&path, severity, rule, words);
    }
}

impl HostsTree<'_> {
    /// Whether anything in it is meant for containerd.
    fn is_tree(&self) -> bool {
        let misnamed = |entries: &Vec<DirEntry>| entries.iter().any(|entry| is_misnamed(&entry.name));
        !self.files.is_empty() || !self.misplaced.is_empty() || self.folders.values().any(misnamed)
    }

    fn check(&self, options: &LintOptions, files: &dyn NodeFiles) -> Vec<Finding> {
        let mut findings = TreeFindings { tree: self, found: Vec::new() };
        self.misplaced(&mut findings);
        for (name, entries) in &self.folders {
            self.misnamed(&mut findings, name, entries);
            if !self.files.contains_key(name) {
                self.certificates(&mut findings, name, entries, files);
            }
        }
        self.names(&mut findings);
        self.versions(&mut findings, options);
        self.default(&mut findings);
        self.shared_places(&mut findings);
        self.authorities_elsewhere(&mut findings, options);
        findings.found
    }

    /// Files in the folder of the tree itself, and files deeper down.
    fn misplaced(&self, findings: &mut TreeFindings<'_>) {
        for file in &self.misplaced {
            let is_root = file.path.parent() == Some(&self.root);
            let registry = registry_of(file).unwrap_or_else(|| "REGISTRY".to_owned());
            let what = if is_root {
                format!(
                    "{FILE_NAME} lies in {} itself, and not in the folder of a registry",
                    self.place.shown()
                )
            } else {
                format!("{FILE_NAME} lies deeper in {} than in the folder of a registry", self.place.shown())
            };
            let effect = "containerd never reads it: pulls go to the upstream".to_owned();
            let fix = format!("move it to {}/{registry}/{FILE_NAME}", self.place.shown());
            findings.at(&file.path, Severity::Error, "misplaced-file", [what, effect, fix]);
        }
    }

    /// Files that were meant to be the folder's `hosts.toml`.
    fn misnamed(&self, findings: &mut TreeFindings<'_>, folder: &str, entries: &[DirEntry]) {
        if self.files.contains_key(folder) || !looks_like_registry(folder) {
            return;
        }
        for entry in entries.iter().filter(|entry| !entry.is_folder && is_misnamed(&entry.name)) {
            let words = [
                format!("{} is not the name of the file: containerd reads {FILE_NAME} alone", entry.name),
                format!("images of {folder} are asked of the upstream, and never of a mirror"),
                format!("rename it to {FILE_NAME}"),
            ];
            findings.at(&self.root.join(folder).join(&entry.name), Severity::Error, "misnamed-file", words);
        }
    }

    /// A folder without a file: certificates by Docker's rules for names.
    fn certificates(
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

    fn names(&self, findings: &mut TreeFindings<'_>) {
        for name in self.files.keys() {
            if let Some((why, right)) = wrong_name(name) {
                let effect = "containerd never looks into it, and the upstream is asked".to_owned();
                let words = [why, effect, format!("rename it to {right}")];
                findings.add(Severity::Error, "wrong-directory-name", name, words);
            }
            if let Some(first) = directory::upstream(name).map(|upstream| directory::preferred(&upstream))
                && first != *name
                && self.folders.contains_key(&first)
            {
                let effect =
                    format!("the first directory that exists speaks alone: {name}/{FILE_NAME} is never read");
                let what = format!("{first} and {name} speak for the same registry");
                let words = [what, effect, format!("put both into {first}")];
                findings.add(Severity::Error, "shadowed-directory", name, words);
            }
        }
    }

    /// What came later than the containerd of the nodes.
    fn versions(&self, findings: &mut TreeFindings<'_>, options: &LintOptions) {
        let Some(version) = options.containerd else { return };
        let Some(first) = self.files.keys().next() else { return };
        let upgrade = |since: Version| format!("upgrade containerd to {since} or later");
        if version < Version::HOSTS_TOML {
            let words = [
                format!("containerd {version} reads no {FILE_NAME}, which came with {}", Version::HOSTS_TOML),
                "no mirror of the tree is asked".to_owned(),
                format!("{}, or write mirrors into config.toml", upgrade(Version::HOSTS_TOML)),
            ];
            findings.add(Severity::Error, "file-too-new", first, words);
        } else if version < Version::DEFAULT_FOLDER && self.files.contains_key(directory::DEFAULT) {
            let words = [
                format!(
                    "containerd {version} does not look for _default, which came with {}",
                    Version::DEFAULT_FOLDER
                ),
                "its mirrors are never asked".to_owned(),
                format!("name a directory for each registry, or {}", upgrade(Version::DEFAULT_FOLDER)),
            ];
            findings.add(Severity::Error, "file-too-new", directory::DEFAULT, words);
        }
    }

    fn default(&self, findings: &mut TreeFindings<'_>) {
        if !self.files.contains_key(directory::DEFAULT) {
            return;
        }
        let bare = |name: &&String| !self.files.contains_key(*name) && looks_like_registry(name);
        let bare: Vec<&str> = self.folders.keys().filter(bare).map(String::as_str).collect();
        if let [first, ..] = bare[..] {
            let words = [
                format!("{} has no {FILE_NAME}", bare.join(", ")),
                format!(
                    "a directory of its own hides _default: images of {first} are not asked of the mirror"
                ),
                format!("copy _default/{FILE_NAME} into it"),
            ];
            findings.add(Severity::Warning, "default-shadowed", directory::DEFAULT, words);
        }
        let others = self.files.len() - 1;
        let beside = match others {
            0 => String::new(),
            _ => format!("; it is not for the {} beside it", units::count(others, "folder")),
        };
        let words = [
            "_default speaks for every registry that has no directory of its own".to_owned(),
            format!(
                "images of all of them are asked of the mirror first, where a/b of one registry is a/b of any other, unless the \
                 mirror goes by the query ns= (spegel){beside}"
            ),
            "name a directory for each registry that is mirrored".to_owned(),
        ];
        // Alone it is what spegel writes, and k3s of a "*".
        let is_meant = others == 0 || config_toml::is_rancher(self.files[directory::DEFAULT]);
        let severity = if is_meant { Severity::Note } else { Severity::Warning };
        findings.add(severity, "default-catches-all", directory::DEFAULT, words);
    }

    fn shared_places(&self, findings: &mut TreeFindings<'_>) {
        let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, source) in &self.files {
            let Some(upstream) = directory::upstream(name) else { continue };
            let Ok(file) = HostsFile::parse(&source.text, Version::NEWEST) else { continue };
            let hosts = file.resolve(&upstream, Path::new(""), Version::NEWEST);
            let roots: BTreeSet<String> = hosts
                .iter()
                .filter(|host| host.authority != upstream && !url::is_docker_alias(&host.authority))
                .map(|host| format!("{}://{}{}", host.scheme, host.authority, host.path))
                .collect();
            for root in roots {
                places.entry(root).or_default().push(name);
            }
        }
        for (place, names) in places {
            let [first, second, ..] = names[..] else { continue };
            let words = [
                format!("{} have one place on the mirror, {place}", names.join(" and ")),
                format!(
                    "{first}/a/b and {second}/a/b are one name there: a node gets whichever was pushed last"
                ),
                format!("give each a namespace: {place}/{first} and {place}/{second}"),
            ];
            findings.add(Severity::Warning, "shared-place", second, words);
        }
    }

    /// The authority of a mirror that lies only in the mirror's own directory.
    fn authorities_elsewhere(&self, findings: &mut TreeFindings<'_>, options: &LintOptions) {
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

/// The registry that a file is meant for, by the server that it names.
fn registry_of(file: &NodeFile) -> Option<String> {
    let document = toml::read(&file.text).ok()?;
    let server = document.get("server")?.text()?.to_owned();
    let authority = url::parts(&server).authority;
    let name = if url::is_docker_alias(authority) { "docker.io" } else { authority };
    (!name.is_empty()).then(|| directory::preferred(name))
}

fn looks_like_registry(folder: &str) -> bool {
    folder == directory::DEFAULT || url::is_registry_name(&folder.replace('_', ":"))
}

/// Whether a name has an extension, as containerd compares it.
fn has_end(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// Whether somebody may have meant it to be `hosts.toml`; a copy put aside is not meant.
fn is_misnamed(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let put_aside = lower.starts_with("hosts.toml") && lower != FILE_NAME || lower.starts_with('.');
    let is_certificate = [".crt", ".cert", ".key", ".pem"].iter().any(|end| lower.ends_with(end));
    name != FILE_NAME
        && !put_aside
        && !is_certificate
        && (has_end(&lower, "toml") || lower.starts_with("host"))
}

/// Why containerd never looks for a directory of this name, and the right one.
pub(super) fn wrong_name(name: &str) -> Option<(String, String)> {
    if name == directory::DEFAULT {
        return None;
    }
    if name == "*" {
        let why = "* is how config.toml names all registries".to_owned();
        return Some((why, directory::DEFAULT.to_owned()));
    }
    if let Some(rest) = name.strip_prefix("https:").or_else(|| name.strip_prefix("http:")) {
        let host = rest.trim_matches(['_', '/']);
        return Some(("a directory's name has no scheme".to_owned(), host.to_owned()));
    }
    let upstream = directory::upstream(name)?;
    let (host, port) = split_port(&upstream);
    if url::is_docker_alias(host) || host == "docker.io" && !port.is_empty() {
        return Some((format!("runtimes call {upstream} docker.io"), "docker.io".to_owned()));
    }
    if upstream.contains('*') {
        let why = format!(
            "{upstream} is taken as it stands: no directory stands for several registries but _default"
        );
        return Some((why, directory::DEFAULT.to_owned()));
    }
    if let Some((host, port)) = upstream.rsplit_once('_')
        && port.parse::<u16>().is_ok()
        && url::is_registry_name(host)
    {
        return Some((format!("a port is written _{port}_ or :{port}"), format!("{host}_{port}_")));
    }
    if upstream != upstream.to_ascii_lowercase() {
        return Some((
            "names of registries are lower-case in names of images".to_owned(),
            name.to_ascii_lowercase(),
        ));
    }
    if !url::is_registry_name(&upstream) {
        let why = format!(
            "{upstream} is not the name of a registry: an image {upstream}/a is docker.io/{upstream}/a"
        );
        return Some((why, "the registry's name, as gcr.io".to_owned()));
    }
    None
}
