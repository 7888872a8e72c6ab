//! Completions load in the shells they are for, man pages render without a warning, and a build says which one it is.

use std::process::Command;

use serde_json::Value;

use crate::support::{folder, layercast};

fn printed(args: &[&str]) -> String {
    let output = layercast().args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a script prints; it may say nothing to standard error.
#[track_caller]
fn script(shell: &str, args: &[&str], script: &str) -> String {
    let output = Command::new(shell).args(args).arg("-c").arg(script).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_load_and_complete() {
    let folder = folder();
    let written = |shell: &str| {
        let path = folder.path().join(shell);
        std::fs::write(&path, printed(&["completions", shell])).unwrap();
        path.display().to_string()
    };
    let complete = "COMP_WORDS=(layercast bundle re); COMP_CWORD=2; _layercast layercast re bundle; echo ${COMPREPLY[@]}";
    let bash = script("bash", &["--norc"], &format!("source {}; {complete}", written("bash")));
    assert_eq!(bash.trim(), "repack");
    let zsh = written("zsh");
    script("zsh", &["-f"], &format!("autoload -U compinit; compinit -D -u; source {zsh}; type _layercast"));
    let fish = written("fish");
    let fish = script("fish", &["--no-config"], &format!("source {fish}; complete -C 'layercast bundle re'"));
    assert!(fish.starts_with("repack\t"), "{fish}");
}

#[test]
fn every_command_has_a_man_page_that_renders_without_a_warning() {
    let folder = folder();
    printed(&["man", "--output", folder.path().to_str().unwrap()]);
    let pages: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    for command in ["layercast", "layercast-push-images", "layercast-sync", "layercast-mirror-lint"] {
        assert!(pages.contains(&folder.path().join(format!("{command}.1"))), "{pages:?}");
    }
    for page in &pages {
        let rendered =
            Command::new("man").args(["--warnings", "-E", "UTF-8", "-l"]).arg(page).output().unwrap();
        let said = String::from_utf8_lossy(&rendered.stderr);
        assert!(rendered.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
    let push = std::fs::read_to_string(folder.path().join("layercast-push-images.1")).unwrap();
    assert!(push.contains(r"\-\-private\-registry"), "{push}");
}

#[test]
fn a_build_says_which_one_it_is() {
    let build: Value = serde_json::from_str(&printed(&["version", "--json"])).unwrap();
    assert_eq!(build["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(build["schema_version"], 1);
    let long = printed(&["--version"]);
    assert_eq!(long, printed(&["version"]));
    assert!(
        long.starts_with("layercast ") && long.contains("\ncommit: ") && long.contains("\nfeatures: "),
        "{long}"
    );
    assert_eq!(printed(&["-V"]), format!("layercast {}\n", env!("CARGO_PKG_VERSION")));
}
