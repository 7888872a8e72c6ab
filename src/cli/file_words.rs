//! Rewrites messages for commands that take a sites file: they name the key of the file instead of the flag of `push images`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::report::{Document, Failure};

/// Whole sentences about flags that are one key of the file.
const SENTENCES: [(&str, &str); 3] = [
    (
        "give credentials with --username and --password-stdin, or log in with docker or podman",
        "say with `credentials` in the sites file where they are, or log in with docker or podman",
    ),
    (
        "--username with --password-stdin or --password-file gives another one",
        "`credentials` in the sites file says where it is",
    ),
    ("with --cacert", "with `ca_file` in the sites file"),
];

/// Flags of `push images` that `sync` does not have, and what is written instead.
const FLAGS: [(&str, &str); 26] = [
    ("accept", "`accept`"),
    ("allow-damaged", "`push images --allow-damaged`"),
    ("api-path", "`api_path`"),
    ("atomic-tags", "`atomic_tags`"),
    ("auth-realm", "`auth_realms`"),
    ("cacert", "`ca_file`"),
    ("client-cert", "`client_cert`"),
    ("client-key", "`client_key`"),
    ("credential-file", "`credentials: {docker_config: …}`"),
    ("exclude", "`exclude`"),
    ("fix-tags", "`fix_tags`"),
    ("gate-timeout", "`gate_timeout`"),
    ("include", "`include`"),
    ("keep-host", "`keep_host`"),
    ("layer-compression", "`layer_compression`"),
    ("name", "`names`"),
    ("name-annotation", "`name_annotation`"),
    ("need-credential=false", "`credentials: none`"),
    ("no-overwrite", "`no_overwrite`"),
    ("on-conflict", "`on_conflict`"),
    ("patience", "`patience`"),
    ("recheck", "`recheck: true`"),
    ("repository", "`repository`"),
    ("rewrite", "`rewrite`"),
    ("threads", "`threads`"),
    ("verify", "`verify`"),
];

/// The same text with keys of the file.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    static FLAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("--([a-z][a-z-]*(?:=false)?)").ok());
    let mut out = Cow::Borrowed(text);
    for (flags, keys) in SENTENCES {
        if out.contains(flags) {
            out = Cow::Owned(out.replace(flags, keys));
        }
    }
    let Some(flag) = &*FLAG else { return out };
    if !flag.is_match(&out) {
        return out;
    }
    let key = |found: &Captures<'_>| {
        let known = FLAGS.iter().find(|(name, _)| *name == &found[1]);
        known.map_or_else(|| found[0].to_owned(), |(_, key)| (*key).to_owned())
    };
    Cow::Owned(flag.replace_all(&out, key).into_owned())
}

/// A failure with keys of the file in its words.
#[must_use]
pub(super) fn failure(failure: Failure) -> Failure {
    let Failure { class, message, hint, exit, cause } = failure;
    let message = text(&message).into_owned();
    let hint = hint.map(|hint| match text(&hint).into_owned() {
        other if other == hint || other.contains("sites file") => other,
        other => format!("{other} (in the sites file)"),
    });
    let cause = cause.map(|cause| text(&cause).into_owned());
    Failure { class, message, hint, exit, cause }
}

/// All failures and notes of a document.
pub(super) fn document(document: &mut Document) {
    let take = |slot: &mut Failure| {
        let said = failure(slot.clone());
        *slot = said;
    };
    for outcome in &mut document.mirrors {
        outcome.error.iter_mut().for_each(take);
        outcome.images_failed.iter_mut().for_each(|failed| take(&mut failed.failure));
    }
    for note in &mut document.notes {
        *note = text(note).into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Class;

    #[test]
    fn hints_name_keys_of_the_file_and_flags_that_sync_has() {
        let said = |hint: &str| failure(Failure::new(Class::Auth, "x").hint(hint)).hint.unwrap();
        assert_eq!(
            said(
                "is the password right? --username with --password-stdin or --password-file gives another one"
            ),
            "is the password right? `credentials` in the sites file says where it is"
        );
        assert_eq!(
            said("--rewrite, --exclude, --on-conflict"),
            "`rewrite`, `exclude`, `on_conflict` (in the sites file)"
        );
        assert_eq!(
            said("--client-cert and --client-key"),
            "`client_cert` and `client_key` (in the sites file)"
        );
        let theirs = "raise it with `--spool-limit BYTES` to 2 MiB or more";
        assert_eq!(said(theirs), theirs);
        assert_eq!(said("run it again"), "run it again");
    }

    #[test]
    fn no_flag_that_a_sites_file_replaces_is_left_in_a_hint() {
        for (name, _) in FLAGS {
            let hint = format!("give --{name}");
            assert!(text(&hint).starts_with("give `"), "{hint}");
        }
    }
}
