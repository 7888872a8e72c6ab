//! `mirror check`, which is `verify --as-node` too: what the containerd of a node would do for each image.

mod images;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::named::{self, Look, Needed};
use crate::archive::LeftOut;
use crate::bundle::Accept;
use crate::cli::bundle::BundleArgs;
use crate::cli::left_out::AcceptArgs;
use crate::cli::output::Output;
use crate::cli::rules::{ChoiceArgs, RuleArgs};
use crate::cli::{Done, left_out};
use crate::cluster::file::{ClusterMirrors, FileRequirements, NamedFile};
use crate::exit::Exit;
use crate::node::check::{self, CheckOptions, CheckedImage, ImageToCheck, MirrorEndpoint, UpstreamHosts};
use crate::node::hosts::{Version, directory};
use crate::node::render::NodeMirror;
use crate::report::Failure;
use crate::report::document::SchemaVersion;

/// Say for each image what a node's containerd would do: pull it from the mirror, fail over, or fail
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Images by name, as gcr.io/path:tag
    #[arg(value_name = "IMAGE")]
    image: Vec<String>,
    /// File with one image per line; # begins a comment
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    accept: AcceptArgs,
    /// The node is one of this cluster: its mirrors, CAs and pull credentials, from the cluster's configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["hosts_dir", "endpoint"], help_heading = "Node")]
    cluster: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Flags about a node.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Node")]
pub(in crate::cli) struct NodeArgs {
    /// The node's hosts tree, as /etc/containerd/certs.d; several with colons between them, as in config_path
    #[arg(long, value_name = "DIR", conflicts_with = "endpoint")]
    hosts_dir: Option<String>,
    /// Instead of a tree: the mirror, as https://HOST:PORT or https://HOST:PORT/v2/NAMESPACE (repeatable)
    #[arg(long, value_name = "URL", requires = "host")]
    endpoint: Vec<String>,
    /// A host whose images lie on the mirror; with =PATH they lie below that path of it (repeatable)
    #[arg(long, value_name = "HOST[=PATH]", requires = "endpoint")]
    host: Vec<String>,
    /// The mirror's authority
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    ca: Option<PathBuf>,
    /// The node asks the mirror and nobody else
    #[arg(long, conflicts_with = "hosts_dir")]
    no_fallback: bool,
    /// A docker config.json with the node's pull credentials
    #[arg(long, value_name = "FILE")]
    pull_credentials: Option<PathBuf>,
    /// The node's containerd; what it cannot read of a hosts.toml depends on it
    #[arg(long, value_name = "VERSION", default_value_t = Version::NEWEST)]
    containerd_version: Version,
    /// Take every upstream to be down: what fails over then fails
    #[arg(long)]
    upstream_down: bool,
    /// Only what nodes of this platform pull, as linux/amd64 (repeatable) [default: every platform of an image]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<String>,
}

pub(in crate::cli) fn run(args: &Args, output: &Output) -> Done {
    let mut images = images::named(&args.image, args.list.as_deref())?;
    let accept = args.accept.accept();
    let mut not_taken = Vec::new();
    if args.bundle.is_given() {
        let bundled = images::bundled(&args.bundle, &args.choice, accept, output)?;
        images.extend(bundled.0);
        not_taken = bundled.1;
    }
    let node = NodeView::new(&args.node, args.cluster.as_deref(), output)?;
    check(&images, &not_taken, accept, &node, args.json, output)
}

/// `verify --as-node`.
pub(in crate::cli) fn run_for_bundle(
    bundle: &BundleArgs,
    rules: &RuleArgs,
    node: &NodeArgs,
    cluster: Option<&Path>,
    json: bool,
    output: &Output,
) -> Done {
    if let Some(flag) = rules.renames() {
        let message = format!(
            "{flag} has no meaning for a node: it asks for images by the names that pods have for them"
        );
        return Err(Failure::usage(message));
    }
    let node = NodeView::new(node, cluster, output)?;
    let accept = rules.accept.accept();
    let (images, not_taken) = images::bundled(bundle, &rules.choice, accept, output)?;
    check(&images, &not_taken, accept, &node, json, output)
}

fn check(
    images: &[ImageToCheck],
    not_taken: &[LeftOut],
    accept: Accept,
    node: &NodeView<'_>,
    json: bool,
    output: &Output,
) -> Done {
    if images.is_empty() {
        return Err(Failure::usage("no image is given").hint(
            "name a bundle with --source, a file with --list, or images: mirror check gcr.io/path:tag",
        ));
    }
    let names: BTreeSet<&str> = images.iter().map(|image| image.name.host.as_str()).collect();
    let settings = CheckOptions {
        upstreams: node.upstreams(&names)?,
        upstream_down: node.args.upstream_down,
        platforms: node.args.platform.clone(),
    };
    for upstream in settings.upstreams.values() {
        upstream.notes.iter().for_each(|note| output.warn(note));
    }
    let checked = crate::cli::runtime()?.block_on(check::run(images, &settings));
    let exit = accept.exit(exit(&checked), not_taken);
    let uncovered: Vec<&str> = settings
        .upstreams
        .values()
        .filter(|upstream| upstream.uncovered.is_some())
        .map(|upstream| upstream.name.as_str())
        .collect();
    if json {
        let with_notes = settings.upstreams.values().filter(|upstream| !upstream.notes.is_empty());
        let document = CheckDocument {
            schema_version: SchemaVersion::One,
            images: checked,
            configuration_notes: with_notes
                .map(|upstream| (upstream.name.clone(), upstream.notes.clone()))
                .collect(),
            left_out: not_taken.to_vec(),
            hosts_not_covered: uncovered.into_iter().map(str::to_owned).collect(),
            upstream_down: node.args.upstream_down,
            exit_code: exit.code(),
        };
        Output::document(&document)?;
    } else {
        let mut text = table::table(&checked);
        if !uncovered.is_empty() {
            let _ =
                writeln!(text, "no mirror covers {} ({})", uncovered.join(", "), node.to_cover(&uncovered));
        }
        text.push_str(&left_out::text(not_taken, accept));
        Output::result(&text)?;
    }
    Ok(exit)
}

/// What `--json` prints. It stands here because it joins what nodes would do with what the bundle left out, and neither room
/// knows the other.
#[derive(Debug, Serialize, Deserialize)]
struct CheckDocument {
    schema_version: SchemaVersion,
    images: Vec<CheckedImage>,
    /// By upstream: settings of the node that do not do what their author meant.
    configuration_notes: BTreeMap<String, Vec<String>>,
    left_out: Vec<LeftOut>,
    hosts_not_covered: Vec<String>,
    upstream_down: bool,
    exit_code: u8,
}

/// A fail-over is what the configuration promises; it is no failure while the upstream is there.
fn exit(checked: &[CheckedImage]) -> Exit {
    if checked.iter().all(|checked| checked.verdict.is_good()) { Exit::Complete } else { Exit::Incomplete }
}

impl NodeArgs {
    /// Whether any flag describes the node.
    pub(in crate::cli) fn is_given(&self) -> bool {
        self.hosts_dir.is_some() || !self.endpoint.is_empty()
    }
}

/// A node: the flags that describe it, and its cluster's file, if that was given.
struct NodeView<'a> {
    args: &'a NodeArgs,
    cluster: Option<ClusterMirrors>,
}

impl<'a> NodeView<'a> {
    fn new(args: &'a NodeArgs, cluster: Option<&Path>, output: &Output) -> Result<Self, Failure> {
        if args.is_given() && cluster.is_some() {
            return Err(Failure::usage(
                "--cluster names the mirrors: --hosts-dir and --endpoint cannot stand beside it",
            ));
        }
        if let Some(dirs) = args.hosts_dir.as_ref().filter(|dirs| dirs.contains(':'))
            && args.containerd_version >= Version::TRANSFER
        {
            output.warn(&format!(
                "--hosts-dir {dirs}: containerd {} takes a list in config_path for the name of one folder where it pulls as it \
                 does by default; the folders are checked as 1.x and 2.0 read them",
                args.containerd_version
            ));
        }
        let read = |path| crate::cli::cluster::read(path, &FileRequirements::default(), output);
        let node = Self { args, cluster: cluster.map(read).transpose()? };
        node.look_at_files()?;
        Ok(node)
    }

    /// The files that the flags or the cluster's file name have to be on this machine: without them nobody can tell what a node
    /// would do.
    fn look_at_files(&self) -> Result<(), Failure> {
        if let Some(cluster) = &self.cluster {
            let replaced = |key| key == named::PULL_CREDENTIALS && self.args.pull_credentials.is_some();
            let needed = cluster.mirrors.iter().flat_map(named::needed).filter(|it| !replaced(it.key));
            for Needed { key, file, look, fix } in needed {
                let at = |failure| crate::cli::cluster::named(&cluster.path, key, file, failure);
                refuse(look, &fix).map_err(at)?;
            }
        }
        let flag = |name: &str, failure: Failure| Failure {
            message: format!("{name} {}", failure.message),
            ..failure
        };
        if let Some(path) = &self.args.ca {
            let fix = "give a file with the authority's certificate as PEM";
            refuse(named::ca(path), fix).map_err(|failure| flag("--ca", failure))?;
        }
        if let Some(path) = &self.args.pull_credentials {
            let fix = "give a docker config.json: docker login writes one";
            refuse(named::pull_credentials(path, ""), fix)
                .map_err(|failure| flag("--pull-credentials", failure))?;
        }
        Ok(())
    }

    /// What the node has for each of the hosts.
    fn upstreams(&self, names: &BTreeSet<&str>) -> Result<BTreeMap<String, UpstreamHosts>, Failure> {
        if !self.args.is_given() && self.cluster.is_none() {
            return Err(Failure::usage("nothing is known of the node").hint(
                "give its hosts tree with --hosts-dir, the mirror with --endpoint and --host, or its cluster's file with --cluster",
            ));
        }
        let upstream = |name: &&str| Ok((String::from(*name), self.upstream(name)?));
        names.iter().map(upstream).collect()
    }

    fn upstream(&self, name: &str) -> Result<UpstreamHosts, Failure> {
        let version = self.args.containerd_version;
        let mut upstream = if let Some(dirs) = &self.args.hosts_dir {
            let roots = roots(dirs)?;
            let loaded = directory::load(&roots, name, version)
                .map_err(|error| Failure::usage(format!("--hosts-dir {dirs}: {name}: {error}")))?;
            UpstreamHosts::loaded(name, loaded)
        } else {
            let endpoints = self.endpoints(name)?;
            // Without a key for gcr.io nobody meant nodes to fall back.
            let can = self.cluster.as_ref().is_none_or(|cluster| cluster.gcr_key_path.is_some());
            let fail_over = endpoints.is_empty() || can && !self.args.no_fallback;
            let mut upstream = UpstreamHosts::behind(name, &endpoints, fail_over, version)
                .map_err(|why| Failure::usage(format!("--endpoint {why}")))?;
            upstream.uncovered = endpoints
                .is_empty()
                .then(|| format!("no mirror is given for {name} ({})", self.to_cover(&[name])));
            upstream
        };
        if self.args.pull_credentials.is_some() {
            for host in &mut upstream.hosts {
                host.pull_credentials.clone_from(&self.args.pull_credentials);
            }
        }
        Ok(upstream)
    }

    /// What to do so that hosts get a mirror.
    fn to_cover(&self, hosts: &[&str]) -> String {
        let flags = || hosts.iter().map(|host| format!("--host {host}")).collect::<Vec<_>>().join(" ");
        if self.args.hosts_dir.is_some() {
            format!("add {} to mirror render", flags())
        } else if self.cluster.is_some() {
            format!("add {} to hosts of registryMirrors", hosts.join(", "))
        } else {
            format!("add {}", flags())
        }
    }

    /// The mirrors of a host, each with the place that the host's images have on it.
    fn endpoints(&self, name: &str) -> Result<Vec<MirrorEndpoint>, Failure> {
        let mut endpoints = Vec::new();
        let path = |file: &Option<NamedFile>| file.as_ref().map(|file| file.path.clone());
        if let Some(cluster) = &self.cluster {
            let here =
                cluster.mirrors.iter().filter(|mirror| mirror.upstreams().iter().any(|host| host == name));
            endpoints.extend(here.map(|mirror| MirrorEndpoint {
                url: mirror.endpoint.clone(),
                ca: path(&mirror.ca_cert_path),
                pull_credentials: path(&mirror.pull_credential_config_path),
            }));
        }
        for url in &self.args.endpoint {
            let mirror = NodeMirror::new(url, &self.args.host)?;
            let place = mirror.upstreams().iter().find(|upstream| upstream.host == name);
            endpoints.extend(place.map(|place| MirrorEndpoint {
                url: mirror.api(place),
                ca: self.args.ca.clone(),
                pull_credentials: self.args.pull_credentials.clone(),
            }));
        }
        Ok(endpoints)
    }
}

/// A file that cannot be used here.
fn refuse(look: Look, fix: &str) -> Result<(), Failure> {
    match look {
        Look::Good => Ok(()),
        Look::Unseen(why) => Err(Failure::usage(why)
            .hint("run mirror check where the file is, or copy it to that path on this machine")),
        Look::Wrong(why) => Err(Failure::usage(why).hint(fix)),
    }
}

/// The folders of `--hosts-dir`. A folder that is no tree would make every image one that is not mirrored, and all seem well.
fn roots(dirs: &str) -> Result<Vec<PathBuf>, Failure> {
    let roots: Vec<PathBuf> = dirs.split(':').map(PathBuf::from).collect();
    if let Some(missing) = roots.iter().find(|root| !root.is_dir()) {
        return Err(Failure::usage(format!("--hosts-dir {}: there is no such folder", missing.display())));
    }
    for root in &roots {
        let is_tree = directory::is_tree(root);
        if is_tree.map_err(|error| Failure::usage(format!("--hosts-dir {}: {error}", root.display())))? {
            return Ok(roots);
        }
    }
    let hint = match roots.iter().find_map(|root| directory::near(root)) {
        Some(near) => format!("did you mean --hosts-dir {}?", near.display()),
        None => "give the folder that holds HOST/hosts.toml; mirror render --runtime containerd --output DIR writes one \
                 at DIR/etc/containerd/certs.d"
            .to_owned(),
    };
    Err(Failure::usage(format!("--hosts-dir {dirs}: no folder in it has a hosts.toml")).hint(hint))
}
