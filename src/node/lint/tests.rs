//! What is rendered reads back as what was meant, whatever a name or a password holds; and what is found in files of a node, in
//! memory, by the kind of file.

mod containerd;
mod daemon_json;
mod hosts_toml;
mod memory;
mod objects;
mod registries_conf;
mod registries_yaml;

use proptest::prelude::*;
use secrecy::SecretString;

use crate::document::{Node, toml, yaml};
use crate::node::render::{MirrorLogin, NodeMirror, Options, Rendered, Runtime, render};

fn rendered(runtime: Runtime, username: &str, password: &str) -> Rendered {
    let mut mirror = NodeMirror::new("https://m:5000/v2/ns", &["gcr.io"]).unwrap();
    let password = SecretString::from(password);
    mirror.credentials = Some(MirrorLogin { username: username.to_owned(), password });
    render(runtime, &mirror, &Options::default()).unwrap()
}

fn text<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    node.at_path(path).and_then(Node::text)
}

proptest! {
    #[test]
    fn credentials_read_back(username in ".{1,16}", password in "\\PC{1,16}|.{1,16}") {
        let of = |runtime| rendered(runtime, &username, &password);
        let legacy = toml::read(of(Runtime::ContainerdLegacy).files[0].text()).unwrap();
        let auth = legacy.at_path(&["plugins", "io.containerd.grpc.v1.cri", "registry", "configs", "m:5000", "auth"]).unwrap();
        prop_assert_eq!(text(auth, &["username"]), Some(username.as_str()));
        prop_assert_eq!(text(auth, &["password"]), Some(password.as_str()));
        let k3s = &yaml::read(of(Runtime::K3s).files[0].text()).unwrap()[0];
        let auth = k3s.at_path(&["configs", "m:5000", "auth"]).unwrap();
        prop_assert_eq!(text(auth, &["username"]), Some(username.as_str()));
        prop_assert_eq!(text(auth, &["password"]), Some(password.as_str()));
        let talos = &yaml::read(of(Runtime::TalosLegacy).files[0].text()).unwrap()[0];
        let auth = talos.at_path(&["machine", "registries", "config", "m:5000", "auth"]).unwrap();
        prop_assert_eq!(text(auth, &["password"]), Some(password.as_str()));
        let secret = &yaml::read(of(Runtime::PullSecret).files[0].text()).unwrap()[0];
        let config: serde_json::Value = serde_json::from_str(text(secret, &["stringData", ".dockerconfigjson"]).unwrap()).unwrap();
        prop_assert_eq!(config["auths"]["m:5000"]["password"].as_str(), Some(password.as_str()));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "(\\PC|\\n|[\\[\\]{}\"':=.-]|  ){0,80}") {
        let _ = toml::read(&text);
        let _ = yaml::read(&text);
    }
}
