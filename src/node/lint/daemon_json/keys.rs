//! The keys of the file: the daemon does not start with one that it does not know, or with a value of another type.
//!
//! `findConfigurationConflicts` in <https://github.com/moby/moby/blob/master/daemon/config/config.go>; the keys are those of its
//! `Config` and of the flags in `cmd/dockerd` there, 20.10 to 29.

use super::STOPS;
use crate::document::{Entry, Key, Node, nearest};
use crate::node::lint::FileFindings;
use crate::node::types::Type;

/// Keys of texts.
const TEXT: &str = "api-cors-header bip bip6 bridge bridge-accept-fwmark cgroup-parent containerd containerd-namespace \
    containerd-plugin-namespace containerd-plugins-namespace data-root default-cgroupns-mode default-ipc-mode default-runtime exec-root \
    firewall-backend fixed-cidr fixed-cidr-v6 group http-proxy https-proxy init-path log-driver log-format log-level metrics-addr \
    no-proxy pidfile seccomp-profile storage-driver swarm-default-advertise-addr tlscacert tlscert tlskey userland-proxy-path \
    userns-remap";
/// Keys of truths.
const BOOLEAN: &str = "allow-direct-routing cri-containerd debug experimental icc init ip-forward ip-forward-no-drop ip-masq \
    ip6tables iptables ipv6 live-restore no-new-privileges raw-logs rootless selinux-enabled tls tlsverify userland-proxy";
/// Keys of whole numbers.
const NUMBER: &str = "cpu-rt-period cpu-rt-runtime max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu \
    network-control-plane-mtu network-diagnostic-port shutdown-timeout swarm-raft-election-tick swarm-raft-heartbeat-tick";
/// Keys of lists of texts.
const TEXTS: &str = "allow-nondistributable-artifacts authorization-plugins cdi-spec-dirs dns dns-opts dns-search exec-opts hosts \
    host-gateway-ips insecure-registries labels node-generic-resources registry-mirrors storage-opts";
/// Keys of tables whose own keys are not looked at.
const TABLE: &str = "builder default-network-opts default-ulimits features log-opts runtimes";
/// Keys whose values come in several shapes.
const OTHER: &str = "config-file default-address-pools default-gateway default-gateway-v6 default-shm-size deprecated-key-path \
    host-gateway-ip ip proxies resolv-conf restart validate";
/// Names of flags, which the daemon lets pass, each with the key that it reads.
const FLAGS: [(&str, &str); 15] = [
    ("registry-mirror", "registry-mirrors"),
    ("insecure-registry", "insecure-registries"),
    ("authorization-plugin", "authorization-plugins"),
    ("storage-opt", "storage-opts"),
    ("exec-opt", "exec-opts"),
    ("dns-opt", "dns-opts"),
    ("label", "labels"),
    ("log-opt", "log-opts"),
    ("add-runtime", "runtimes"),
    ("default-ulimit", "default-ulimits"),
    ("default-address-pool", "default-address-pools"),
    ("default-network-opt", "default-network-opts"),
    ("node-generic-resource", "node-generic-resources"),
    ("cdi-spec-dir", "cdi-spec-dirs"),
    ("host", "hosts"),
];
/// Keys that were taken out, with the version and what to do instead.
const REMOVED: [(&str, &str, &str); 6] = [
    ("graph", "23.0", "write data-root"),
    ("cluster-store", "23.0", "remove it: networks of swarm need none"),
    ("cluster-advertise", "23.0", "remove it: networks of swarm need none"),
    ("cluster-store-opts", "23.0", "remove it: networks of swarm need none"),
    ("disable-legacy-registry", "19.03", "remove it: such registries are not spoken to any more"),
    ("oom-score-adjust", "25.0", "set OOMScoreAdjust in the unit of systemd"),
];
/// What belongs into another file.
const OF_THE_CLIENT: [&str; 4] = ["auths", "auth", "credHelpers", "credsStore"];

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split_ascii_whitespace()
}

fn known() -> Vec<&'static str> {
    [TEXT, BOOLEAN, NUMBER, TEXTS, TABLE, OTHER].into_iter().flat_map(words).collect()
}

fn type_of(key: &str) -> Option<Type> {
    let lists = [
        (TEXT, Type::Text),
        (BOOLEAN, Type::Boolean),
        (NUMBER, Type::Number),
        (TEXTS, Type::Texts),
        (TABLE, Type::Table),
    ];
    lists.into_iter().find(|(list, _)| words(list).any(|word| word == key)).map(|(_, wanted)| wanted)
}

pub(super) fn check(findings: &mut FileFindings<'_>, document: &Node) {
    for Entry { key, value } in document.entries() {
        // Tables are taken apart, but for some: their keys are held against the same list.
        let is_flat = words(TABLE).any(|word| word == key.name);
        match value.mapping().filter(|_| !is_flat) {
            Some(table) if type_of(&key.name).is_none() => {
                table.entries.iter().for_each(|entry| one(findings, &entry.key));
            }
            _ => one(findings, key),
        }
        if let Some(wanted) = type_of(&key.name).filter(|wanted| !value.is_null() && !wanted.takes(value)) {
            let what = format!("{} is not {}", key.name, wanted.name());
            let fix = if wanted == Type::Texts {
                format!("write {:?}: [\"…\"]", key.name)
            } else {
                format!("write {}", wanted.name())
            };
            findings.error("wrong-type", key.at, [what, STOPS.to_owned(), fix]);
        }
    }
}

fn one(findings: &mut FileFindings<'_>, Key { name, at, .. }: &Key) {
    let name = name.as_str();
    let known = known();
    if known.contains(&name) {
        return;
    }
    let what = format!("the daemon does not know the key {name:?}");
    if let Some((_, key)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
        let words = [
            format!("{name:?} is the name of a flag, and the key of this file is {key:?}"),
            "the daemon passes it over without a word".to_owned(),
            format!("write {key:?}, with a list or a table"),
        ];
        findings.error("unknown-key", *at, words);
    } else if let Some((_, version, fix)) = REMOVED.iter().find(|(removed, ..)| *removed == name) {
        let what = format!("the key {name:?} was taken out in Docker {version}");
        let effect = format!("{STOPS} since then");
        findings.error("unknown-key", *at, [what, effect, (*fix).to_owned()]);
    } else if OF_THE_CLIENT.contains(&name) {
        let fix = "it belongs into the config.json of the user who pulls".to_owned();
        findings.error("unknown-key", *at, [what, STOPS.to_owned(), fix]);
    } else if let Some(meant) = meant(name, &known) {
        findings.error("unknown-key", *at, [what, STOPS.to_owned(), format!("did you mean {meant:?}?")]);
    } else {
        let effect = format!("unless a newer one knows it, {STOPS}");
        let fix = "look for it in the documentation of dockerd, or remove it".to_owned();
        findings.warning("unknown-key", *at, [what, effect, fix]);
    }
}

fn meant(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if name == "mirrors" { Some("registry-mirrors") } else { nearest(name, known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_keys_hold_each_once() {
        let mut all = known();
        all.extend(FLAGS.iter().map(|(flag, _)| *flag));
        all.extend(REMOVED.iter().map(|(key, ..)| *key));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(FLAGS.iter().all(|(_, key)| known().contains(key)));
    }
}
