//! Resolves the file as written: sites inherit, names are looked up, and contradictions are reported.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::bundles::BundlePath;
use super::keys::{At, OrNone};
use super::sites::{
    ClientCertificateFiles, Config, Gate, Group, KeptRuns, MetricsSettings, PasswordSource, Site, SiteCare,
    SiteCredentials, SourceSettings, StageSettings, Wave,
};
use super::values::{Glob, IfRunning, RegistryAddress, RegistryPlace};
use super::written::{BundleKeys, CredentialKeys, GroupKeys, Settings, SiteKeys, SitesFile, WindowKeys};
use crate::document::{Findings, Position, nearest};
use crate::error::printable;
use crate::oci::Repository;
use crate::plan::{Naming, Patterns, Rules};
use crate::registry::{Scheme, Target};
use crate::schedule::{Days, Window};

const PARALLEL_SITES: usize = 20;
const GATE_TIMEOUT: Duration = Duration::from_secs(600);
/// A name becomes the label of a metric and part of the names of files.
const MAX_NAME_CHARS: usize = 100;

/// What the file comes to. What of it is wrong goes to the findings; the rest of it counts as not written.
pub(super) fn resolve(file: &SitesFile, folder: &Path, findings: &mut Findings) -> Config {
    let groups: &[_] = file.groups.as_ref().map_or(&[], |groups| groups.value.0.as_slice());
    for (key, _) in groups {
        check_name("a group", &key.name, key.at, findings);
    }
    let mut resolver = Resolver {
        folder,
        file,
        defaults: file.defaults.as_ref().map(|it| &it.value),
        groups,
        rules: Vec::new(),
    };
    let written: &[_] = file.sites.as_ref().map_or(&[], |sites| &sites.value);
    let sites: Vec<Site> = written.iter().filter_map(|site| resolver.site(site, findings)).collect();
    check_sites(written, &sites, groups, findings);
    let bundles = file.bundles.as_ref().map_or(&[][..], |bundles| &bundles.value);
    let sources: Vec<SourceSettings> =
        bundles.iter().filter_map(|bundle| resolver.source(bundle, findings)).collect();
    let is_empty_list = bundles.is_empty();
    let bundles: Vec<BundlePath> = bundles
        .iter()
        .filter_map(|bundle| {
            let path = bundle.value.path.as_ref()?;
            let newest = bundle.value.newest.as_ref().is_some_and(|newest| newest.value);
            let found = BundlePath::new(path.value.below(folder), newest);
            found.map_err(|words| findings.error("wrong-value", path.at, words)).ok()
        })
        .collect();
    for (list, key) in
        [(file.bundles.as_ref().map(|it| it.at), "bundles"), (file.sites.as_ref().map(|it| it.at), "sites")]
    {
        let is_empty = if key == "bundles" { is_empty_list } else { written.is_empty() };
        if let Some(at) = list.filter(|_| is_empty) {
            findings.error(
                "empty",
                at,
                (format!("{key} is an empty list"), format!("{key}: with an entry below it")),
            );
        }
    }
    let waves = file.waves.as_ref().map_or(&[][..], |waves| &waves.value);
    Config {
        bundles,
        sources,
        stage: file.stage.as_ref().and_then(|stage| {
            let stage = &stage.value;
            let limit_bytes = stage.limit.as_ref().map(|limit| limit.value.0);
            let owner = stage.owner.as_ref().map(|owner| owner.value.clone());
            Some(StageSettings { dir: stage.dir.as_ref()?.value.below(folder), limit_bytes, owner })
        }),
        state_dir: file.state_dir.as_ref().map(|path| path.value.below(folder)),
        spool_dir: file.spool_dir.as_ref().map(|path| path.value.below(folder)),
        spool_limit_bytes: file.spool_limit.as_ref().map(|limit| limit.value.0),
        memory_bytes: file.memory.as_ref().map(|memory| memory.value.0),
        parallel_sites: given(file.parallel_sites.as_ref())
            .and_then(|sites| number(sites.0))
            .or(NonZeroUsize::new(PARALLEL_SITES))
            .unwrap_or(NonZeroUsize::MIN),
        deadline: given(file.deadline.as_ref()).map(|span| span.0),
        bandwidth: file.bandwidth.as_ref().and_then(|rate| unless_none(&rate.value).copied()),
        metrics: file.metrics.as_ref().map_or_else(MetricsSettings::default, |metrics| MetricsSettings {
            textfile: metrics.value.textfile.as_ref().map(|path| path.value.below(folder)),
            listen: given(metrics.value.listen.as_ref()).map(|listen| listen.0),
        }),
        layer_compression: given(file.layer_compression.as_ref()).unwrap_or_default(),
        accept: file.accept.iter().flat_map(|accept| &accept.value).map(|accepted| accepted.value).collect(),
        if_running: given(file.if_running.as_ref()).unwrap_or(IfRunning::Skip),
        waves: waves.iter().map(|wave| resolver.wave(&wave.value.0, written, findings)).collect(),
        max_failed_sites: given(file.max_failed_sites.as_ref()).and_then(|sites| number(sites.0)),
        notify: file.notify.as_ref().map(|notify| notify.value.clone()),
        kept_runs: file.retention.as_ref().map_or_else(KeptRuns::default, |kept| KeptRuns {
            runs: given(kept.value.runs.as_ref()).map(|runs| runs.0),
            days: given(kept.value.days.as_ref()).map(|days| days.0),
        }),
        groups: groups
            .iter()
            .map(|(key, group)| Group {
                name: key.name.clone(),
                shared_bandwidth: given(group.shared_bandwidth.as_ref()),
            })
            .collect(),
        sites,
    }
}

fn given<T: Copy>(value: Option<&At<T>>) -> Option<T> {
    value.map(|value| value.value)
}

fn number(number: u32) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(number).unwrap_or(usize::MAX))
}

fn texts(list: &[At<String>]) -> Vec<String> {
    list.iter().map(|text| text.value.clone()).collect()
}

fn unless_none<T>(value: &OrNone<T>) -> Option<&T> {
    match value {
        OrNone::None => None,
        OrNone::Some(value) => Some(value),
    }
}

/// What sites inherit from.
struct Resolver<'f> {
    folder: &'f Path,
    /// Some of what it says for the run holds for sites that do not say otherwise.
    file: &'f SitesFile,
    defaults: Option<&'f Settings>,
    groups: &'f [(crate::document::Key, GroupKeys)],
    /// Those of all sites so far: equal ones are shared.
    rules: Vec<Arc<Rules>>,
}

impl<'f> Resolver<'f> {
    fn site(&mut self, written: &'f At<SiteKeys>, findings: &mut Findings) -> Option<Site> {
        let At { at, value: keys } = written;
        let name = keys.name.as_ref();
        if let Some(name) = name {
            check_name("a site", &name.value, name.at, findings);
        }
        let groups = groups_of(keys, findings);
        // What counts most comes first.
        let mut levels = vec![&keys.settings];
        for group in groups.iter().rev() {
            match self.groups.iter().find(|(key, _)| key.name == group.value) {
                Some((_, found)) => levels.push(&found.settings),
                None => self.unknown_group(group, findings),
            }
        }
        levels.extend(self.defaults);
        if let Some(place) = levels.iter().find_map(|level| level.registry.as_ref()) {
            odd_place(place, findings);
        }
        let groups = groups.iter().map(|group| group.value.clone()).collect();
        self.resolved(name.map(|name| name.value.clone()), groups, levels, *at, findings)
    }

    /// The registry of a bundle, if it has one. It inherits nothing.
    fn source(&mut self, written: &'f At<BundleKeys>, findings: &mut Findings) -> Option<SourceSettings> {
        let At { at, value: keys } = written;
        let BundleKeys { path, source, newest, .. } = keys;
        let stray = [
            ("credentials", keys.credentials.as_ref().map(|it| it.at)),
            ("auth_realms", keys.auth_realms.as_ref().map(|it| it.at)),
            ("ca_file", keys.ca_file.as_ref().map(|it| it.at)),
            ("client_cert", keys.client_cert.as_ref().map(|it| it.at)),
            ("client_key", keys.client_key.as_ref().map(|it| it.at)),
            ("api_path", keys.api_path.as_ref().map(|it| it.at)),
            ("patience", keys.patience.as_ref().map(|it| it.at)),
        ];
        let Some(place) = source else {
            if path.is_none() && !keys.refused.iter().any(|key| matches!(*key, "path" | "source")) {
                findings.error("missing-key", *at, ("a bundle needs path or source", "path: …"));
            }
            for (key, at) in stray.into_iter().filter_map(|(key, at)| Some((key, at?))) {
                let what = format!("{key} is for a registry, and this bundle has no source");
                findings.error("wrong-value", at, (what, "source: registry:https://HOST:PORT/NAMESPACE"));
            }
            return None;
        };
        let with_path =
            [("path", path.as_ref().map(|it| it.at)), ("newest", newest.as_ref().map(|it| it.at))];
        for (key, at) in with_path.into_iter().filter_map(|(key, at)| Some((key, at?))) {
            let what = format!("{key} is for files, and the source of this bundle is a registry");
            findings.error("wrong-value", at, (what, "an entry of its own for each"));
        }
        if self.file.stage.is_none() {
            let what = "a registry is pulled into the stage, and the file names none";
            findings.error("missing-key", place.at, (what, "stage: {dir: /var/lib/layercast/stage}"));
        }
        let RegistryPlace { source, target } = &place.value;
        let settings = Settings {
            registry: Some(At { at: place.at, value: RegistryAddress(target.clone()) }),
            credentials: keys.credentials.clone(),
            auth_realms: keys.auth_realms.clone(),
            ca_file: keys.ca_file.clone(),
            client_cert: keys.client_cert.clone(),
            client_key: keys.client_key.clone(),
            api_path: keys.api_path.clone(),
            patience: keys.patience.clone(),
            ..Settings::default()
        };
        let mut source = source.clone();
        source.list = source.list.map(|list| self.folder.join(list));
        let registry =
            self.resolved(Some(source.name.clone()), Vec::new(), vec![&settings], *at, findings)?;
        Some(SourceSettings { source, registry })
    }

    /// A site with what these levels say, of which the first counts most.
    fn resolved(
        &mut self,
        name: Option<String>,
        groups: Vec<String>,
        levels: Vec<&Settings>,
        at: Position,
        findings: &mut Findings,
    ) -> Option<Site> {
        let settings = Inherited { levels, folder: self.folder };
        let target = settings.target(at, findings);
        let credentials = settings.credentials(findings);
        let client_certificate = settings.client_certificate(findings);
        let rules = self.shared(settings.rules());
        Some(Site {
            name: name?,
            groups,
            enabled: settings.copied(|it| &it.enabled).unwrap_or(true),
            target: target?,
            credentials: credentials?,
            auth_realms: texts(settings.list(|it| &it.auth_realms)),
            upload_hosts: texts(settings.list(|it| &it.upload_host)),
            ca_file: settings.first(|it| &it.ca_file).map(|path| path.below(self.folder)),
            client_certificate,
            rules,
            threads: settings.copied(|it| &it.threads).and_then(|threads| number(threads.0)),
            retries: settings.copied(|it| &it.retries).map(|retries| retries.0),
            patience: settings.copied(|it| &it.patience).map(|patience| patience.0),
            bandwidth: settings.first(|it| &it.bandwidth).and_then(unless_none).copied(),
            window: settings.first(|it| &it.window).and_then(unless_none).and_then(window),
            atomic_tags: settings.copied(|it| &it.atomic_tags).unwrap_or(false),
            care: settings.care(self.file),
            gate: settings.first(|it| &it.gate).and_then(unless_none).map(|command| Gate {
                command: command.clone(),
                timeout: settings.copied(|it| &it.gate_timeout).map_or(GATE_TIMEOUT, |timeout| timeout.0),
            }),
            on_missing_repository: settings
                .first(|it| &it.on_missing_repository)
                .and_then(unless_none)
                .cloned(),
            keep_bundles: settings.copied(|it| &it.keep_bundles).and_then(|kept| number(kept.0)),
        })
    }

    fn shared(&mut self, rules: Rules) -> Arc<Rules> {
        if let Some(known) = self.rules.iter().find(|known| ***known == rules) {
            return Arc::clone(known);
        }
        let rules = Arc::new(rules);
        self.rules.push(Arc::clone(&rules));
        rules
    }

    fn unknown_group(&self, group: &At<String>, findings: &mut Findings) {
        let names: Vec<&str> = self.groups.iter().map(|(key, _)| key.name.as_str()).collect();
        let what = format!("there is no group {}", printable(&group.value));
        findings.error("unknown-name", group.at, (what, known(&group.value, &names, "groups")));
    }

    fn wave(&self, names: &[At<String>], sites: &[At<SiteKeys>], findings: &mut Findings) -> Wave {
        let groups = self.groups.iter().map(|(key, _)| key.name.as_str());
        let sites = sites.iter().filter_map(|site| site.value.name.as_ref()).map(|name| name.value.as_str());
        let all: Vec<&str> = groups.chain(sites).collect();
        for name in names.iter().filter(|name| !all.contains(&name.value.as_str())) {
            let what = format!("{} is neither a site nor a group", printable(&name.value));
            findings.error("unknown-name", name.at, (what, known(&name.value, &all, "sites or groups")));
        }
        Wave(names.iter().map(|name| name.value.clone()).collect())
    }
}

/// What works in a place of a registry and may be meant otherwise. Said once, for all that inherit it.
fn odd_place(place: &At<RegistryAddress>, findings: &mut Findings) {
    let Target { endpoint, namespace } = &place.value.0;
    let host = endpoint.authority();
    if endpoint.scheme() == Scheme::Unstated {
        let what = format!("registry: {host} has no scheme, so TLS is spoken");
        let fix = format!("registry: https://{host}, or http://{host} if it speaks no TLS");
        findings.warning_once("no-scheme", place.at, (what, fix));
    }
    if let Some(path) = namespace {
        let scheme = if endpoint.scheme() == Scheme::Http { "http" } else { "https" };
        let what =
            format!("registry has a path, {path}, which counts as a namespace before that of `namespace`");
        let fix =
            format!("registry: {scheme}://{host} and namespace: {path} (or api_path, if the API lies there)");
        findings.warning_once("path-in-registry", place.at, (what, fix));
    }
}

/// The correction of a name that nobody has.
fn known(name: &str, names: &[&str], what: &str) -> String {
    nearest(name, names).map_or_else(|| format!("remove it, or add it to {what}"), str::to_owned)
}

fn window(keys: &WindowKeys) -> Option<Window> {
    Some(Window {
        days: given(keys.days.as_ref()).unwrap_or(Days::ALL),
        hours: given(keys.hours.as_ref())?,
        zone: keys.time_zone.as_ref()?.value.clone(),
        outside: given(keys.outside.as_ref()).unwrap_or_default(),
    })
}

/// The settings of a site; the first level that has a setting counts.
struct Inherited<'f> {
    levels: Vec<&'f Settings>,
    folder: &'f Path,
}

impl<'f> Inherited<'f> {
    fn placed<T>(&self, field: impl Fn(&'f Settings) -> &'f Option<At<T>>) -> Option<&'f At<T>> {
        self.levels.iter().find_map(|level| field(level).as_ref())
    }

    fn first<T>(&self, field: impl Fn(&'f Settings) -> &'f Option<At<T>>) -> Option<&'f T> {
        self.placed(field).map(|placed| &placed.value)
    }

    fn copied<T: Copy + 'f>(&self, field: impl Fn(&'f Settings) -> &'f Option<At<T>>) -> Option<T> {
        self.first(field).copied()
    }

    fn list<T>(&self, field: impl Fn(&'f Settings) -> &'f Option<At<Vec<At<T>>>>) -> &'f [At<T>] {
        self.first(field).map_or(&[], Vec::as_slice)
    }

    /// The registry, and the namespace below its own.
    fn target(&self, at: Position, findings: &mut Findings) -> Option<Target> {
        let Some(place) = self.placed(|it| &it.registry) else {
            if !self.levels.iter().any(|level| level.refused.contains(&"registry")) {
                let fix = "registry: https://HOST:PORT, here or in defaults or a group of it";
                findings.error("missing-key", at, ("a site without a registry", fix));
            }
            return None;
        };
        let mut target = place.value.0.clone();
        if let Some(path) = self.placed(|it| &it.api_path) {
            match target.endpoint.with_api_path(&path.value) {
                Ok(endpoint) => target.endpoint = endpoint,
                Err(why) => {
                    let words = (format!("api_path: {why}"), "api_path: /repository/NAME");
                    findings.error("wrong-value", path.at, words);
                }
            }
        }
        if let Some(namespace) = self.placed(|it| &it.namespace) {
            match namespace.value.0.below(target.namespace.as_ref()) {
                Ok(joined) => target.namespace = Some(joined),
                Err(error) => {
                    let words = (format!("namespace: {error}"), "namespace: a shorter one");
                    findings.error("wrong-value", namespace.at, words);
                }
            }
        }
        Some(target)
    }

    /// What the file says for the run holds for sites that do not say otherwise.
    fn care(&self, file: &SitesFile) -> SiteCare {
        let no_overwrite = self.copied(|it| &it.no_overwrite).or(given(file.no_overwrite.as_ref()));
        let recheck = self.copied(|it| &it.recheck).or(given(file.recheck.as_ref()));
        let verify = self.copied(|it| &it.verify).or(given(file.verify.as_ref()));
        SiteCare {
            no_overwrite: no_overwrite.unwrap_or(false),
            recheck: recheck.unwrap_or(false),
            verify: verify.unwrap_or_default(),
        }
    }

    fn credentials(&self, findings: &mut Findings) -> Option<SiteCredentials> {
        let Some(placed) = self.placed(|it| &it.credentials) else { return Some(SiteCredentials::Usual) };
        let Some(keys) = unless_none(&placed.value) else { return Some(SiteCredentials::Anonymous) };
        let CredentialKeys { docker_config, username, password_file, password_env, command, helper, refused } =
            keys;
        if !refused.is_empty() {
            return None;
        }
        let password = [
            password_file.as_ref().map(|path| PasswordSource::File(path.value.below(self.folder))),
            password_env.as_ref().map(|name| PasswordSource::Variable(name.value.clone())),
            command.as_ref().map(|command| PasswordSource::Command(command.value.clone())),
        ];
        let mut passwords = password.into_iter().flatten();
        let found = match (docker_config, helper, username, passwords.next()) {
            (Some(path), None, None, None) => {
                Ok(SiteCredentials::DockerConfig(path.value.below(self.folder)))
            }
            (None, Some(name), None, None) => Ok(SiteCredentials::Helper(name.value.clone())),
            (None, None, Some(name), Some(password)) if passwords.next().is_none() => {
                Ok(SiteCredentials::User { name: name.value.clone(), password })
            }
            (None, None, Some(_), None) => Err("a username, and no word of where its password is"),
            (None, None, None, Some(_)) => Err("a password without a username"),
            (None, None, None, None) => Err("no credentials"),
            _ => Err("more than one place for credentials"),
        };
        let refuse = |what: &str| {
            let fix = "one of {docker_config: FILE}, {helper: NAME}, {username: NAME, password_file: FILE}, {username: NAME, \
                       password_env: NAME}, {username: NAME, command: COMMAND}, none";
            findings.error("wrong-value", placed.at, (what, fix));
        };
        found.map_err(refuse).ok()
    }

    fn client_certificate(&self, findings: &mut Findings) -> Option<ClientCertificateFiles> {
        let (certificate, key) = (self.placed(|it| &it.client_cert), self.placed(|it| &it.client_key));
        if let (None, Some(key)) = (certificate, key) {
            findings.error("missing-key", key.at, ("client_key without client_cert", "client_cert: FILE"));
        }
        let certificate = certificate?.value.below(self.folder);
        let key = key.map_or_else(|| certificate.clone(), |key| key.value.below(self.folder));
        Some(ClientCertificateFiles { certificate, key })
    }

    fn rules(&self) -> Rules {
        let patterns = |globs: &[At<Glob>]| {
            let texts: Vec<&str> = globs.iter().map(|glob| glob.value.0.as_str()).collect();
            // Each was a pattern when it was read.
            Patterns::new(&texts).unwrap_or_default()
        };
        Rules {
            naming: Naming {
                rewrites: self.list(|it| &it.rewrite).iter().map(|rule| rule.value.clone()).collect(),
                keep_host: self.copied(|it| &it.keep_host).unwrap_or(false),
                repository: self.first(|it| &it.repository).map(|name| name.0.clone()),
                names: self.list(|it| &it.names).iter().map(|name| name.value.clone()).collect(),
                annotation: self.first(|it| &it.name_annotation).cloned(),
                fix_tags: self.copied(|it| &it.fix_tags).unwrap_or(false),
            },
            include: patterns(self.list(|it| &it.include)),
            exclude: patterns(self.list(|it| &it.exclude)),
            on_conflict: self.copied(|it| &it.on_conflict).unwrap_or_default(),
        }
    }
}

/// The groups of a site. One that is named twice counts once, at its last place: its limits would count twice.
fn groups_of<'f>(keys: &'f SiteKeys, findings: &mut Findings) -> Vec<&'f At<String>> {
    let all: Vec<&At<String>> = keys.groups.iter().flat_map(|groups| &groups.value).collect();
    let is_last = |at: usize| all[at + 1..].iter().all(|later| later.value != all[at].value);
    let (last, earlier): (Vec<_>, Vec<_>) = (0..all.len()).partition(|at| is_last(*at));
    for at in earlier {
        let what = format!("the group {} is named twice", printable(&all[at].value));
        findings.warning("duplicate", all[at].at, (what, "groups: [each of them once]"));
    }
    last.into_iter().map(|at| all[at]).collect()
}

fn check_name(what: &str, name: &str, at: Position, findings: &mut Findings) {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(is_good) {
        let what = format!("{} is no name of {what}", printable(name));
        let fix = format!("letters, digits, - _ and . alone, at most {MAX_NAME_CHARS}");
        findings.error("wrong-value", at, (what, fix));
    }
}

/// Names and places that stand twice.
fn check_sites(
    written: &[At<SiteKeys>],
    sites: &[Site],
    groups: &[(crate::document::Key, GroupKeys)],
    findings: &mut Findings,
) {
    let mut names: HashMap<&str, Position> =
        groups.iter().map(|(key, _)| (key.name.as_str(), key.at)).collect();
    let mut positions = HashMap::new();
    for name in written.iter().filter_map(|site| site.value.name.as_ref()) {
        positions.entry(name.value.as_str()).or_insert(name.at);
        if let Some(first) = names.insert(&name.value, name.at) {
            let what = format!(
                "{} is the name of another site or group (line {})",
                printable(&name.value),
                first.line
            );
            findings.error("duplicate", name.at, (what, "name: one that no other site or group has"));
        }
    }
    let mut places: HashMap<(String, &str, Option<&Repository>), &Site> = HashMap::new();
    for site in sites {
        let endpoint = &site.target.endpoint;
        let place = (endpoint.place(), endpoint.api_path(), site.target.namespace.as_ref());
        if let Some(first) = places.insert(place, site).filter(|first| first.name != site.name) {
            let what = format!("{} and {} are both {}", first.name, site.name, site.target);
            let at = positions.get(site.name.as_str()).copied();
            findings.error("duplicate", at, (what, "namespace: another one, or remove one of the two sites"));
        }
    }
}
