//! What keeps containerd, or its plugin that pulls images, from starting.

use super::SetFindings;
use crate::node::containerd::{ConfigLocation, FIRST, OLD, Stop};

pub(super) fn check(findings: &mut SetFindings<'_>, at: ConfigLocation, stop: &Stop) {
    let runtime = findings.runtime.clone();
    let plugin = format!("the CRI plugin of {runtime} does not load, and no pod starts");
    let keep = "keep config_path, and write each mirror into hosts.toml (mirror render --runtime containerd)";
    let (rule, words) = match stop {
        Stop::FileVersion { number, newest } => {
            let fix = format!("write version = {newest} with the names of plugins that it has");
            let effect = format!("{runtime} knows files up to version {newest} and does not start");
            ("unsupported-version", [format!("the file is of version {number}"), effect, fix])
        }
        Stop::PluginName(name) => {
            let what = format!("plugins.{name:?} is a name of version 1, and the file is of version 2");
            let fix = match name.as_str() {
                FIRST => format!("write plugins.{OLD:?}"),
                "io" => format!("put the plugin's whole name into quotes, as plugins.{OLD:?}"),
                _ => "write the whole name, as io.containerd.grpc.v1.NAME".to_owned(),
            };
            let effect = format!("{runtime} does not start: it does not read the table");
            ("wrong-plugin-table", [what, effect, fix])
        }
        Stop::ListedName { list, name } => {
            let what = format!("{list} has {name:?}, which is no whole name of a plugin");
            let fix = match name.as_str() {
                FIRST => format!(
                    "take it out where this containerd serves Kubernetes; to switch CRI off, write {OLD:?}"
                ),
                _ => "write the whole name, as io.containerd.grpc.v1.NAME".to_owned(),
            };
            let effect = format!("{runtime} does not start with a file of version 2 or later");
            ("wrong-plugin-name", [what, effect, fix])
        }
        Stop::NewerImport { number, main } => {
            let what =
                format!("this imported file is of version {number}, and the main file of version {main}");
            let effect = format!("{runtime} does not start");
            ("newer-import", [what, effect, format!("write version = {number} into the main file too")])
        }
        Stop::MirrorsBesideConfigPath(path) => {
            let what = format!("mirrors stand beside config_path ({})", findings.line(*path, at));
            ("both-styles", [what, format!("containerd refuses both: {plugin}"), keep.to_owned()])
        }
        Stop::MirrorsBesideDefault => {
            let what = "mirrors stand here, and 2.2.0 and 2.2.1 set config_path by themselves".to_owned();
            let effect = format!("they refuse both: {plugin}");
            let fix = "upgrade to 2.2.2 or later, or write each mirror into hosts.toml and set config_path"
                .to_owned();
            ("mirrors-in-2.2", [what, effect, fix])
        }
        Stop::TlsBesideConfigPath(path) => {
            let what = format!("configs.….tls stands beside config_path ({})", findings.line(*path, at));
            let fix = "write ca, client and skip_verify into hosts.toml instead (mirror render --runtime containerd)";
            ("both-styles", [what, format!("containerd refuses both: {plugin}"), fix.to_owned()])
        }
        Stop::Type { key, wanted } => {
            let what = format!("{key} is not {wanted}");
            ("wrong-type", [what, plugin, format!("write {wanted}")])
        }
        Stop::RootType { key, wanted } => {
            let what = format!("{key} is not {wanted}");
            ("wrong-type", [what, format!("{runtime} does not start"), format!("write {wanted}")])
        }
    };
    findings.error(rule, at, words);
}
