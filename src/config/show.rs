//! The resolved file, written as a sites file: every site with all of its settings, and nothing inherited.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use super::registry_source::RegistrySource;
use super::sites::{Config, PasswordSource, Site, SiteCredentials, SourceSettings};
use super::values::word;
use crate::compress::Method;
use crate::hook::notify::Notify;
use crate::plan::OnConflict;
use crate::registry::Scheme;
use crate::schedule::Window;

/// A piece of the file.
enum Shown {
    /// A number, `true`, or a word of the format.
    Bare(String),
    Text(String),
    List(Vec<Shown>),
    Keys(Keys),
}

/// Keys with what stands behind them, in their order.
type Keys = Vec<(String, Shown)>;

impl Config {
    /// The file with these sites. It has no secrets, because the file that it comes from had none; of a URL that is notified
    /// only the host is shown, because what follows it may be one.
    pub(crate) fn shown(&self, sites: &[&Site]) -> String {
        let mut out = String::new();
        write(&Shown::Keys(self.keys(sites)), 0, &mut out);
        out
    }

    fn keys(&self, sites: &[&Site]) -> Keys {
        let bundles = self.bundles.iter().map(|bundle| {
            Shown::Keys(keys([
                ("path", Some(path(bundle.path()))),
                ("newest", bundle.is_newest().then(|| bare(true))),
            ]))
        });
        let sources = self.sources.iter().map(|it| Shown::Keys(it.keys()));
        let bundles = bundles.chain(sources);
        let stage = self.stage.as_ref().map(|stage| {
            Shown::Keys(keys([
                ("dir", Some(path(&stage.dir))),
                ("limit", stage.limit_bytes.map(bare)),
                ("owner", stage.owner.as_ref().map(text)),
            ]))
        });
        let metrics = keys([
            ("textfile", self.metrics.textfile.as_ref().map(path)),
            ("listen", self.metrics.listen.as_ref().map(text)),
        ]);
        let kept = keys([("runs", self.kept_runs.runs.map(bare)), ("days", self.kept_runs.days.map(bare))]);
        // Groups stay for what their sites share, and for their names.
        let groups = self.groups.iter().map(|group| {
            (group.name.clone(), Shown::Keys(keys([("shared_bandwidth", group.shared_bandwidth.map(bare))])))
        });
        // A wave may name sites that are not shown: the file would be refused.
        let is_shown = |name: &&String| {
            sites.iter().any(|site| site.name == **name)
                || self.groups.iter().any(|group| group.name == **name)
        };
        let waves = self.waves.iter().filter_map(|wave| list(wave.0.iter().filter(is_shown).map(text)));
        keys([
            ("version", Some(bare(1))),
            ("bundles", Some(Shown::List(bundles.collect()))),
            ("stage", stage),
            ("state_dir", self.state_dir.as_ref().map(path)),
            ("spool_dir", self.spool_dir.as_ref().map(path)),
            ("spool_limit", self.spool_limit_bytes.map(bare)),
            ("memory", self.memory_bytes.map(bare)),
            ("parallel_sites", Some(bare(self.parallel_sites))),
            ("deadline", self.deadline.map(span)),
            ("bandwidth", self.bandwidth.map(bare)),
            ("metrics", (!metrics.is_empty()).then_some(Shown::Keys(metrics))),
            (
                "layer_compression",
                (self.layer_compression != Method::Gzip).then(|| bare(word(&self.layer_compression))),
            ),
            ("accept", list(self.accept.iter().map(|accepted| bare(word(accepted))))),
            ("if_running", Some(bare(word(&self.if_running)))),
            ("waves", list(waves)),
            ("max_failed_sites", self.max_failed_sites.map(bare)),
            ("notify", self.notify.as_ref().map(|notify| text(without_path(notify)))),
            ("retention", (!kept.is_empty()).then_some(Shown::Keys(kept))),
            ("groups", (!self.groups.is_empty()).then(|| Shown::Keys(groups.collect()))),
            ("sites", Some(Shown::List(sites.iter().map(|site| Shown::Keys(site.keys())).collect()))),
        ])
    }
}

impl SourceSettings {
    fn keys(&self) -> Keys {
        let Self { source: RegistrySource { place, list, .. }, registry } = self;
        let list = list.as_ref().map(|list| format!("@{}", list.display())).unwrap_or_default();
        let of_registry =
            ["api_path", "credentials", "auth_realms", "ca_file", "client_cert", "client_key", "patience"];
        let own = registry.keys().into_iter().filter(|(key, _)| of_registry.contains(&key.as_str()));
        [("source".to_owned(), text(format!("registry:{place}{list}")))].into_iter().chain(own).collect()
    }
}

impl Site {
    fn keys(&self) -> Keys {
        let (rules, naming) = (&self.rules, &self.rules.naming);
        let texts = |texts: &[String]| list(texts.iter().map(text));
        let certificate = self.client_certificate.as_ref();
        keys([
            ("name", Some(text(&self.name))),
            ("groups", texts(&self.groups)),
            ("enabled", (!self.enabled).then(|| bare(false))),
            ("registry", Some(text(self.registry()))),
            ("namespace", self.target.namespace.as_ref().map(text)),
            ("api_path", Some(self.target.endpoint.api_path()).filter(|path| !path.is_empty()).map(text)),
            ("credentials", self.credentials.shown()),
            ("auth_realms", texts(&self.auth_realms)),
            ("upload_host", texts(&self.upload_hosts)),
            ("ca_file", self.ca_file.as_ref().map(path)),
            ("client_cert", certificate.map(|files| path(&files.certificate))),
            ("client_key", certificate.map(|files| path(&files.key))),
            ("include", texts(rules.include.texts())),
            ("exclude", texts(rules.exclude.texts())),
            ("keep_host", naming.keep_host.then(|| bare(true))),
            ("rewrite", list(naming.rewrites.iter().map(text))),
            ("repository", naming.repository.as_ref().map(text)),
            ("names", list(naming.names.iter().map(text))),
            ("name_annotation", naming.annotation.as_ref().map(text)),
            ("fix_tags", naming.fix_tags.then(|| bare(true))),
            (
                "on_conflict",
                (rules.on_conflict != OnConflict::Refuse).then(|| bare(word(&rules.on_conflict))),
            ),
            ("threads", self.threads.map(bare)),
            ("retries", self.retries.map(bare)),
            ("patience", self.patience.map(span)),
            ("bandwidth", self.bandwidth.map(bare)),
            ("window", self.window.as_ref().map(window)),
            ("atomic_tags", self.atomic_tags.then(|| bare(true))),
            ("no_overwrite", self.care.no_overwrite.then(|| bare(true))),
            ("recheck", self.care.recheck.then(|| bare(true))),
            ("verify", Some(bare(word(&self.care.verify)))),
            ("gate", self.gate.as_ref().map(|gate| text(&gate.command))),
            ("gate_timeout", self.gate.as_ref().map(|gate| span(gate.timeout))),
            ("on_missing_repository", self.on_missing_repository.as_ref().map(text)),
            ("keep_bundles", self.keep_bundles.map(bare)),
        ])
    }

    /// With the scheme, unless it is still to be found out.
    fn registry(&self) -> String {
        let endpoint = &self.target.endpoint;
        if endpoint.scheme() == Scheme::Unstated { endpoint.authority() } else { endpoint.to_string() }
    }
}

impl SiteCredentials {
    fn shown(&self) -> Option<Shown> {
        let (name, password) = match self {
            Self::Usual => return None,
            Self::Anonymous => return Some(bare("none")),
            Self::DockerConfig(file) => {
                return Some(Shown::Keys(keys([("docker_config", Some(path(file)))])));
            }
            Self::Helper(name) => return Some(Shown::Keys(keys([("helper", Some(text(name)))]))),
            Self::User { name, password } => (name, password),
        };
        let (key, place) = match password {
            PasswordSource::File(file) => ("password_file", path(file)),
            PasswordSource::Variable(variable) => ("password_env", text(variable)),
            PasswordSource::Command(command) => ("command", text(command)),
        };
        Some(Shown::Keys(keys([("username", Some(text(name))), (key, Some(place))])))
    }
}

fn window(window: &Window) -> Shown {
    Shown::Keys(keys([
        ("days", Some(text(window.days))),
        ("hours", Some(text(window.hours))),
        ("time_zone", Some(text(&window.zone))),
        ("outside", Some(bare(window.outside))),
    ]))
}

fn keys<const N: usize>(keys: [(&str, Option<Shown>); N]) -> Keys {
    keys.into_iter().filter_map(|(key, shown)| Some((key.to_owned(), shown?))).collect()
}

fn list(items: impl Iterator<Item = Shown>) -> Option<Shown> {
    let items: Vec<Shown> = items.collect();
    (!items.is_empty()).then_some(Shown::List(items))
}

fn bare(value: impl Display) -> Shown {
    Shown::Bare(value.to_string())
}

fn text(value: impl Display) -> Shown {
    Shown::Text(value.to_string())
}

fn path(path: impl AsRef<Path>) -> Shown {
    text(path.as_ref().display())
}

fn span(span: Duration) -> Shown {
    let seconds = span.as_secs();
    if span.subsec_nanos() != 0 {
        return bare(format_args!("{}ms", span.as_millis()));
    }
    match seconds {
        0 => bare("0s"),
        _ if seconds.is_multiple_of(3600) => bare(format_args!("{}h", seconds / 3600)),
        _ if seconds.is_multiple_of(60) => bare(format_args!("{}m", seconds / 60)),
        _ => bare(format_args!("{seconds}s")),
    }
}

fn without_path(notify: &Notify) -> String {
    match notify {
        Notify::Command(_) => notify.to_string(),
        Notify::Url(_) => format!("{notify}/…"),
    }
}

/// Writes a piece behind its key. What has parts begins a line of its own.
fn write(shown: &Shown, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match shown {
        Shown::Bare(word) => {
            let _ = writeln!(out, "{word}");
        }
        // What JSON quotes, YAML reads as the same.
        Shown::Text(text) => {
            let _ = writeln!(out, "{}", serde_json::Value::from(text.as_str()));
        }
        Shown::Keys(keys) if keys.is_empty() => out.push_str("{}\n"),
        Shown::Keys(keys) => {
            for (key, shown) in keys {
                let _ = write!(out, "{margin}{key}:{}", behind(shown));
                write(shown, indent + 2, out);
            }
        }
        Shown::List(items) => {
            for item in items {
                let mut inner = String::new();
                write(item, indent + 2, &mut inner);
                let _ = write!(out, "{margin}- {}", inner.trim_start());
            }
        }
    }
}

fn behind(shown: &Shown) -> &'static str {
    match shown {
        Shown::Bare(_) | Shown::Text(_) => " ",
        Shown::Keys(keys) if keys.is_empty() => " ",
        Shown::Keys(_) | Shown::List(_) => "\n",
    }
}
