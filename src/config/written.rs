//! The file as it is written: its sections, their keys, and what each of them is.
//!
//! The comments are what editors show of a key, and what `docs/sites.md` has to explain.

use super::keys::{At, NamedSections, OrNone, sections};
use super::values::{
    Bytes, FilePath, Glob, IfRunning, Listen, Namespace, Number, RegistryAddress, RegistryPlace,
    RepositoryName, TimeSpan, WaveMembers,
};
use crate::bundle::Acceptable;
use crate::compress::Method;
use crate::engine::Verification;
use crate::hook::notify::Notify;
use crate::plan::naming::GivenName;
use crate::plan::{OnConflict, Rewrite};
use crate::schedule::{Days, Hours, Outside, Zone};
use crate::units::Rate;

/// Credentials have no place in the file; it says where they are.
fn no_secrets(key: &str) -> Option<(String, String)> {
    let is_secret = ["password", "passwd", "pass", "token", "secret", "identitytoken", "auth"].contains(&key);
    is_secret.then(|| {
        let what = format!("{key} would put a secret into this file, which is not made for secrets");
        let fix = "username: with password_file: FILE, password_env: NAME or command: COMMAND; or docker_config: FILE, or \
                   helper: NAME";
        (what, fix.to_owned())
    })
}

sections! {
    /// A sites file: which bundles go to which sites, and how.
    SitesFile = "the file" {
        /// The version of this format: 1.
        version (required): Number<1, 1>,
        /// Bundles of images. All of them go to every site.
        bundles (required): Vec<At<BundleKeys>>,
        /// A folder that keeps what was decoded and compressed for sites that come later.
        stage: StageKeys,
        /// Folder for what is remembered between runs, and for the locks of sites.
        state_dir: FilePath,
        /// Folder for what cannot be kept in memory.
        spool_dir: FilePath,
        /// Most disk space that spooled bundles and waiting layers may take together.
        spool_limit: Bytes,
        /// Memory for decoded parts, compressed layers and bodies of requests.
        memory: Bytes,
        /// Sites that are fed at the same time. Default: 20.
        parallel_sites: Number<1, 10_000>,
        /// When the run ends, whatever is still to be done. Sites that are not complete then count as failed (exit 3).
        deadline: TimeSpan,
        /// The most that the run sends, all sites together.
        bandwidth: OrNone<Rate>,
        /// Where figures for Prometheus go.
        metrics: MetricsKeys,
        /// How plain layers of docker-archives are compressed. Default: gzip.
        layer_compression: Method,
        /// What you know of the bundles and accept: it is noted, and no failure.
        accept: Vec<At<Acceptable>>,
        /// Do not overwrite tags that point to another image, at sites that do not say otherwise. Default: false.
        no_overwrite: bool,
        /// Ask for every blob, also of images whose manifest a site has, at sites that do not say otherwise. Default: false.
        recheck: bool,
        /// How far it is checked that images are there before their tags move, at sites that do not say otherwise. Default:
        /// sample.
        verify: Verification,
        /// What becomes of a site that another run is at. Default: skip.
        if_running: IfRunning,
        /// Sites that come before others: each item is a site, a group, or a list of them. A wave begins when the one before
        /// it has ended; sites that no wave names come last.
        waves: Vec<At<WaveMembers>>,
        /// The run begins no further site when this many have failed. Default: it goes on.
        max_failed_sites: Number<1, 100_000>,
        /// A command of the shell, or a URL, that gets the report when a run ends.
        notify: Notify,
        /// How long past runs are remembered.
        retention: RetentionKeys,
        /// What holds for all sites that do not say otherwise.
        defaults: Settings,
        /// Groups of sites, by name. What a group says goes over `defaults`.
        groups: NamedSections<GroupKeys>,
        /// The sites. What a site says goes over its groups and `defaults`.
        sites (required): Vec<At<SiteKeys>>,
    }

    /// A bundle, or several that a pattern names: either `path` or `source`.
    BundleKeys = "a bundle" advice no_secrets {
        /// An archive, a folder, or a pattern for names of archives in a folder (`/srv/bundles/bmpackages_*.tar.xz`).
        path: FilePath,
        /// A registry whose images are pulled into the stage: `registry:https://HOST[:PORT][/NAMESPACE][@LIST]`. LIST is a file with
        /// the name of an image on each line; without it all that the registry lists is taken.
        source: RegistryPlace,
        /// Take the newest by version of those that match, and not all. It must not have changed for 60 seconds, and where a
        /// file of its name with .sha256 behind it lies beside it, its sum must be right; else the next one is taken.
        newest: bool,
        /// Where the credentials for `source` are; `none` asks for nothing. Default: the usual files of docker and podman.
        credentials: OrNone<CredentialKeys>,
        /// Hosts of token servers that may be shown the credentials, although they are not of the registry's own domain.
        auth_realms: Vec<At<String>>,
        /// CA certificates (PEM) to trust for `source` besides the system's.
        ca_file: FilePath,
        /// Client certificate (PEM) for `source`.
        client_cert: FilePath,
        /// Key of the client certificate (PEM). Default: it is in the certificate's file.
        client_key: FilePath,
        /// The path below which the API of `source` lies, where that is not /v2: `/repository/NAME`.
        api_path: String,
        /// How long `source` may be away before it is given up. Default: 20s.
        patience: TimeSpan,
    }

    /// What is kept for sites that come later.
    StageKeys = "stage" {
        /// The folder.
        dir (required): FilePath,
        /// The most that may be kept there.
        limit: Bytes,
        /// Whose bundles this file keeps there. Files of one owner count as one. Default: the path of this file.
        owner: String,
    }

    /// Where figures for Prometheus go.
    MetricsKeys = "metrics" {
        /// A file for the textfile collector of node_exporter, written whole when a run ends.
        textfile: FilePath,
        /// The address at which figures can be fetched while a run lasts: IP:PORT, or a port of the loopback.
        listen: Listen,
    }

    /// How long past runs are remembered.
    RetentionKeys = "retention" {
        /// Runs. Default: 1000.
        runs: Number<1, 1_000_000>,
        /// Days. Default: 400.
        days: Number<1, 36_500>,
    }

    /// When a site may be talked to.
    WindowKeys = "a window" {
        /// Days on which it opens: `mon-fri`, `sat,sun`, `[mon, wed]`. Default: daily.
        days: Days,
        /// From when to when, as `22:00-05:00`. A window over midnight belongs to the day on which it opens.
        hours (required): Hours,
        /// Whose clocks count, as `Europe/Berlin`.
        time_zone (required): Zone,
        /// What happens while it is closed: the run waits, or the site is left for the next run (deferred, exit 0). Default: wait.
        outside: Outside,
    }

    /// Where the credentials of a site are.
    CredentialKeys = "credentials" advice no_secrets {
        /// A docker config.json or podman auth.json.
        docker_config: FilePath,
        /// The user name.
        username: String,
        /// The file whose first line is the password.
        password_file: FilePath,
        /// The variable of the environment that has the password.
        password_env: String,
        /// The command of the shell that writes the password as its first line.
        command: String,
        /// NAME of the credential helper docker-credential-NAME.
        helper: String,
    }

    /// What can be said for all sites, for a group, or for one site.
    Settings = "defaults" advice no_secrets {
        /// Whether anything is done. Default: true.
        enabled: bool,
        /// HOST[:PORT], with https:// or http:// before it. Plain HTTP must be written.
        registry: RegistryAddress,
        /// The path in front of every repository.
        namespace: Namespace,
        /// The path below which the registry has its API, where that is not /v2: `/repository/NAME`.
        api_path: String,
        /// Where the credentials are; `none` asks for nothing. Default: the usual files of docker and podman.
        credentials: OrNone<CredentialKeys>,
        /// Hosts of token servers that may be shown the credentials, although they are not of the registry's own domain.
        auth_realms: Vec<At<String>>,
        /// Other hosts to which a registry may lead uploads. They are never shown credentials.
        upload_host: Vec<At<String>>,
        /// CA certificates (PEM) to trust besides the system's.
        ca_file: FilePath,
        /// Client certificate (PEM).
        client_cert: FilePath,
        /// Key of the client certificate (PEM). Default: it is in the certificate's file.
        client_key: FilePath,
        /// Only images whose name in the bundle matches one of these.
        include: Vec<At<Glob>>,
        /// Not the images whose name in the bundle matches one of these.
        exclude: Vec<At<Glob>>,
        /// Keep the host of a name as the first part of its path on the mirror. Default: false.
        keep_host: bool,
        /// Other places for repositories: PATTERN=PATH.
        rewrite: Vec<At<Rewrite>>,
        /// The repository of images that have only a tag or no name.
        repository: RepositoryName,
        /// Names of images that have none: [DIGEST=]NAME:TAG.
        names: Vec<At<GivenName>>,
        /// The annotation of index.json entries that has their names.
        name_annotation: String,
        /// Write `_` for `+` in tags, as Helm does.
        fix_tags: bool,
        /// Which of two different images gets a name that both claim. Default: refuse.
        on_conflict: OnConflict,
        /// Most uploads at the same time. Default: as many as the registry bears, up to 32.
        threads: Number<1, 1024>,
        /// How often a request that failed is sent again. Default: 7.
        retries: Number<0, 100>,
        /// How long a registry may be away before it is given up. Default: 20s.
        patience: TimeSpan,
        /// The most that is sent to a site, as 20Mbit/s.
        bandwidth: OrNone<Rate>,
        /// When a site may be talked to; `none` takes back what is inherited.
        window: OrNone<WindowKeys>,
        /// Move no tag of a site unless all its images are complete. Default: false.
        atomic_tags: bool,
        /// Do not overwrite tags that point to another image. Default: as the file says for all sites.
        no_overwrite: bool,
        /// Ask for every blob, also of images whose manifest a site has. Default: as the file says for all sites.
        recheck: bool,
        /// How far it is checked that images are there before their tags move. Default: as the file says for all sites.
        verify: Verification,
        /// A command of the shell that judges an image when it is on the site and before its tag moves.
        gate: OrNone<String>,
        /// How long the gate may take for an image. Default: 10m.
        gate_timeout: TimeSpan,
        /// A command of the shell that makes a repository that is not there.
        on_missing_repository: OrNone<String>,
        /// Complete bundles whose images `prune` leaves on a site, the last ones. Default: 3.
        keep_bundles: Number<1, 65_535>,
    }

    /// A group of sites.
    GroupKeys = "a group" advice no_secrets {
        /// The most that is sent to all sites of the group together, as 60Mbit/s.
        shared_bandwidth: Rate,
        + settings: Settings,
    }

    /// A site: a registry, or a namespace of one, that is kept in step with the bundles.
    SiteKeys = "a site" advice no_secrets {
        /// Its name, in reports, in metrics and on the command line.
        name (required): String,
        /// The groups it is in. Of two that say different things the later one counts.
        groups: Vec<At<String>>,
        + settings: Settings,
    }
}
