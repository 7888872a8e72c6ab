//! Credentials, in the order in which people expect them to be found: flags, environment, files and helpers, a question
//! on the terminal, and else an error that says all this.

use std::collections::HashMap;
use std::env::VarError;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use super::mirror_values::MirrorNames;
use super::output::Output;
use crate::error::system_words;
use crate::oci::Repository;
use crate::program::{self, Keep, Terms};
use crate::registry::{
    ClientOptions, Credential, CredentialSource, FailureKind, Registry, RegistryError, Target, credentials,
};
use crate::report::{Class, Failure};
use crate::small_file;

/// Flags about credentials.
#[derive(Debug, Args)]
#[command(next_help_heading = "Credentials")]
pub(super) struct CredentialArgs {
    /// Whether the registry needs credentials; with =false nothing is looked up or asked for
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          action = clap::ArgAction::Set, value_name = "BOOL")]
    need_credential: bool,
    /// The same as --need-credential=false
    #[arg(long)]
    no_registry_credential: bool,
    /// User name (repeatable: MIRROR=NAME is for one mirror)
    #[arg(long, env = USERNAME, value_name = "[MIRROR=]NAME")]
    username: Vec<String>,
    /// Password; other users of this machine can see it (ps): prefer --password-stdin or --password-file
    #[arg(long, value_name = "PASSWORD", conflicts_with_all = ["password_stdin", "password_file", "password_command"])]
    password: Option<SecretString>,
    /// Read the password from standard input
    #[arg(long, conflicts_with_all = ["password_file", "password_command"])]
    password_stdin: bool,
    /// Read the password from the first line of a file (repeatable: MIRROR=FILE)
    #[arg(long, value_name = "[MIRROR=]FILE", conflicts_with = "password_command")]
    password_file: Vec<String>,
    /// Read the password from the first line of what a command of the shell writes (repeatable: MIRROR=COMMAND)
    #[arg(long, value_name = "[MIRROR=]COMMAND")]
    password_command: Vec<String>,
    /// A docker config.json or podman auth.json to take credentials from, instead of the usual files (repeatable:
    /// MIRROR=FILE)
    #[arg(long, value_name = "[MIRROR=]FILE")]
    credential_file: Vec<String>,
    /// Host of a token server that may be shown the credentials, although it is not of the registry's own domain
    /// (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    auth_realm: Vec<String>,
    /// Host that a registry may have blobs sent to, although it is asked by another name; credentials are not (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    upload_host: Vec<String>,
}

const USERNAME: &str = "LAYERCAST_USERNAME";
const PASSWORD: &str = "LAYERCAST_PASSWORD";
const MAX_PASSWORD_BYTES: u64 = 64 << 10;
/// A password store may have to be unlocked first.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// What it may write.
const MAX_WRITTEN_BYTES: usize = 1 << 20;

/// The credentials for one mirror: the usual one, and those of repositories with entries of their own.
#[derive(Default)]
pub(super) struct WhoWeAre {
    pub(super) credential: Option<Credential>,
    pub(super) below: Vec<(Repository, Credential)>,
}

impl From<Credential> for WhoWeAre {
    fn from(credential: Credential) -> Self {
        Self { credential: Some(credential), below: Vec::new() }
    }
}

/// Passwords that are read once for all mirrors.
#[derive(Default)]
pub(super) struct Passwords {
    stdin: Option<SecretString>,
    asked: HashMap<String, SecretString>,
}

impl CredentialArgs {
    /// Whether the password comes from standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        self.password_stdin
    }

    /// Token servers that may see credentials.
    pub(super) fn auth_realms(&self) -> &[String] {
        &self.auth_realm
    }

    /// Other hosts that may get blobs.
    pub(super) fn upload_hosts(&self) -> &[String] {
        &self.upload_host
    }

    fn unneeded(&self) -> bool {
        !self.need_credential || self.no_registry_credential
    }

    /// Checks that the flags fit each other and the mirrors.
    ///
    /// # Errors
    /// Credentials are given that nobody is to use, or that are for no mirror of this run.
    pub(super) fn check(&self, mirrors: &MirrorNames<'_>) -> Result<(), Failure> {
        mirrors.check_files("--password-file", &self.password_file)?;
        mirrors.check_files("--credential-file", &self.credential_file)?;
        for (flag, values) in [("--username", &self.username), ("--password-command", &self.password_command)]
        {
            // Taken for a value for all, it would be sent to every mirror, or run.
            if let Some(name) = values.iter().find_map(|value| mirrors.unknown(value)) {
                return Err(mirrors.is_no_mirror(flag, name));
            }
        }
        let given = [
            ("--username", !self.username.is_empty() && self.user_source() != USERNAME),
            ("--password", self.password.is_some()),
            ("--password-stdin", self.password_stdin),
            ("--password-file", !self.password_file.is_empty()),
            ("--password-command", !self.password_command.is_empty()),
            ("--credential-file", !self.credential_file.is_empty()),
        ];
        match given.iter().find(|(_, is_given)| self.unneeded() && *is_given) {
            None => Ok(()),
            Some((flag, _)) => {
                let unneeded =
                    if self.need_credential { "--no-registry-credential" } else { "--need-credential=false" };
                let failure = Failure::usage(format!(
                    "{flag} is given, and {unneeded} says that no credentials are used"
                ));
                Err(failure.hint("leave out one of them"))
            }
        }
    }

    /// Where the user names come from.
    fn user_source(&self) -> &'static str {
        match std::env::var(USERNAME) {
            Ok(value) if self.username == [value.as_str()] => USERNAME,
            _ => "--username",
        }
    }

    /// Warns of flags that are unwise.
    pub(super) fn warn(&self, output: &Output) {
        if self.password.is_some() && !self.unneeded() {
            output.warn("--password shows in the process list; --password-stdin and --password-file do not");
        }
    }

    /// The credential that flags and environment give for one mirror, if any.
    fn given(
        &self,
        mirrors: &MirrorNames<'_>,
        target: &Target,
        passwords: &mut Passwords,
    ) -> Result<Option<Credential>, Failure> {
        let user = mirrors.value(&self.username, target).map(str::to_owned);
        let from = self.user_source();
        let fixed = |password| Some((password, CredentialSource::fixed(from)));
        let found = if let Some(password) = &self.password {
            fixed(password.clone())
        } else if self.password_stdin {
            if passwords.stdin.is_none() {
                let read = first_line(std::io::stdin())
                    .map_err(|why| Failure::usage(format!("--password-stdin: {why}")))?;
                passwords.stdin = Some(read);
            }
            passwords.stdin.clone().and_then(fixed)
        } else if let Some(path) = mirrors.value(&self.password_file, target) {
            let password = secret_in(Path::new(path)).map_err(|why| {
                Failure::usage(format!("--password-file {path}: {why}"))
                    .hint("name a file that this user may read; its first line is the password")
            })?;
            let read = |path: &str| secret_in(Path::new(path)).ok();
            Some((password, read_again(from, user.as_ref(), path, read)))
        } else if let Some(command) = mirrors.value(&self.password_command, target) {
            let password = secret_of(command).map_err(|why| {
                Failure::new(Class::Auth, format!("--password-command {command}: {why}"))
                    .hint("run it in a shell: it must end with 0 and write the password as its first line")
            })?;
            Some((password, read_again(from, user.as_ref(), command, |command| secret_of(command).ok())))
        } else {
            match std::env::var(PASSWORD) {
                Ok(password) => fixed(password.into()),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => {
                    return Err(Failure::usage(format!("{PASSWORD} is not UTF-8 text")));
                }
            }
        };
        match (user, found) {
            (Some(user), Some((password, origin))) => Ok(Some(Credential::password(user, password, origin))),
            (Some(user), None) if std::io::stdin().is_terminal() => {
                if !passwords.asked.contains_key(&user) {
                    let password = rpassword::prompt_password(format!("Password of {user}: "));
                    let password =
                        password.map_err(|error| Failure::usage(format!("reading the password: {error}")))?;
                    passwords.asked.insert(user.clone(), password.into());
                }
                let password = passwords.asked.get(&user).cloned().unwrap_or_default();
                Ok(Some(Credential::password(user, password, CredentialSource::fixed(from))))
            }
            (Some(user), None) => Err(Failure::new(
                Class::Auth,
                format!("no password for user {user} of {target}"),
            )
            .hint(
                "give it with --password-stdin, --password-file, --password-command or LAYERCAST_PASSWORD",
            )),
            (None, Some(_)) => {
                Err(Failure::usage(format!("a password was given for {target}, but no --username")))
            }
            (None, None) => Ok(None),
        }
    }

    /// The credential for one mirror; `own` is the docker config.json that its cluster's file names. May ask on the
    /// terminal.
    pub(super) async fn find(
        &self,
        mirrors: &MirrorNames<'_>,
        passwords: &mut Passwords,
        own: Option<&NamedConfig>,
        target: &Target,
        options: &ClientOptions,
        output: &Output,
    ) -> Result<WhoWeAre, Failure> {
        if self.unneeded() {
            return Ok(WhoWeAre::default());
        }
        if let Some(given) = self.given(mirrors, target, passwords)? {
            return Ok(given.into());
        }
        let name = target.to_string();
        let given = mirrors.value(&self.credential_file, target).map(Path::new);
        let file = given.or(own.map(|own| own.path.as_path()));
        let found = match (given, own) {
            (Some(path), _) => credentials::from_file(path, &name)?,
            (None, Some(own)) => {
                credentials::from_file(&own.path, &name).map_err(|error| own.refused(error))?
            }
            (None, None) => credentials::find(&name),
        };
        found.troubles.iter().for_each(|trouble| output.warn(trouble));
        for (place, credential) in found.named(&name) {
            output.note(&format!("{place}: {}", credential.who()));
        }
        if found.credential.is_some() || !found.below.is_empty() {
            return Ok(WhoWeAre { credential: found.credential, below: found.below });
        }
        match file {
            Some(path) if found.troubles.is_empty() => {
                output.warn(&format!(
                    "{} has no credentials for {name}{}",
                    path.display(),
                    near(&found.near)
                ));
            }
            None if !found.near.is_empty() => {
                output.note(&format!("no credentials for {name} were found{}", near(&found.near)));
            }
            _ => {}
        }
        // Nothing is known. Many mirrors want nothing: ask them before asking a person.
        let mut options = options.clone();
        // Whether it is there at all is for the run to find out, with all its patience.
        options.retry.connect_patience = Duration::ZERO;
        match Registry::connect(&target.endpoint, options).await {
            Err(error) if error.kind() == FailureKind::Auth => {}
            // It takes everyone; or it has another problem, which the run will tell of.
            _ => return Ok(WhoWeAre::default()),
        }
        if !std::io::stdin().is_terminal() {
            let text = format!("{name} needs credentials, and none were found{}", near(&found.near));
            return Err(Failure::new(Class::Auth, text).hint(
                "give --username with --password-stdin, --password-file or --password-command, set LAYERCAST_USERNAME and \
                 LAYERCAST_PASSWORD, or log in with docker or podman; --need-credential=false asks for nothing",
            ));
        }
        ask(&name).map(WhoWeAre::from)
    }
}

/// A docker config.json that another file names.
pub(super) struct NamedConfig {
    pub(super) path: PathBuf,
    /// Where it is named, as `FILE:LINE: KEY`.
    pub(super) place: String,
}

impl NamedConfig {
    fn refused(&self, error: RegistryError) -> Failure {
        let failure = Failure::from(error);
        Failure { message: format!("{}: {}", self.place, failure.message), ..failure }
    }
}

/// A source that is asked again after a refusal: it may have changed meanwhile.
pub(super) fn read_again(
    words: &str,
    user: Option<&String>,
    source: &str,
    read: impl Fn(&str) -> Option<SecretString> + Send + Sync + 'static,
) -> CredentialSource {
    let (user, source, from) = (user.cloned().unwrap_or_default(), source.to_owned(), words.to_owned());
    let reader = move || {
        Some(Credential::password(user.clone(), read(&source)?, CredentialSource::fixed(from.clone())))
    };
    CredentialSource::again(words, Arc::new(reader))
}

/// Entries that may have been meant.
fn near(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (there is one for {})", names.join(", ")) }
}

/// The first line of a file.
pub(super) fn secret_in(path: &Path) -> Result<SecretString, String> {
    std::fs::File::open(path).map_err(|error| system_words(&error)).and_then(first_line)
}

/// The first line of what a command of the shell writes.
pub(super) fn secret_of(command: &str) -> Result<SecretString, String> {
    let terms = Terms::new(program::patience(COMMAND_TIMEOUT), Keep::AtMost(MAX_WRITTEN_BYTES));
    let finished = program::run(Command::new("sh").args(["-c", command]), b"", &terms)?;
    if finished.status.success() { first_line(&finished.stdout[..]) } else { Err(finished.failure()) }
}

/// The question of the vendor's tool: a user name and password, or the path of a docker config file.
fn ask(host: &str) -> Result<Credential, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Class::Auth, format!("reading from the terminal: {error}"));
    let answer = Output::ask(&format!("User name for {host} (or the path of a docker config file): "))
        .map_err(failed)?;
    if answer.contains('/')
        || std::path::Path::new(&answer).extension().is_some_and(|ending| ending == "json")
    {
        let path = PathBuf::from(&answer);
        let found = credentials::from_file(&path, host)?;
        return found
            .credential
            .ok_or_else(|| Failure::new(Class::Auth, format!("{answer} has no credentials for {host}")));
    }
    if answer.is_empty() {
        return Err(Failure::new(Class::Auth, "no user name was given"));
    }
    let password = rpassword::prompt_password(format!("Password of {answer}: ")).map_err(failed)?;
    Ok(Credential::password(answer, password.into(), CredentialSource::fixed("the terminal")))
}

/// The first line, with all that is in it but the end of the line.
fn first_line(from: impl std::io::Read) -> Result<SecretString, String> {
    let bytes = small_file::read_from(from, MAX_PASSWORD_BYTES).map_err(|error| system_words(&error))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16 text: save it as UTF-8".to_owned());
    }
    // Editors of Windows put a mark before UTF-8.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let line = text.lines().next().unwrap_or_default().trim_end_matches('\r');
    if line.is_empty() {
        return Err("its first line is empty".to_owned());
    }
    Ok(line.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_password_is_the_whole_first_line() {
        for (text, expected) in [
            (&b"secret\n"[..], "secret"),
            (b"secret\r\nmore\n", "secret"),
            (b" a:b  ", " a:b  "),
            (b"\xef\xbb\xbfsecret\n", "secret"),
            ("pässwörd€\n".as_bytes(), "pässwörd€"),
        ] {
            assert_eq!(first_line(text).unwrap().expose_secret(), expected);
        }
        for text in [&b""[..], b"\nsecret", b"\xff\xfes\0", b"\xff"] {
            assert!(first_line(text).is_err(), "{text:?}");
        }
        assert!(first_line(std::io::repeat(b'x')).is_err());
    }

    #[test]
    fn a_command_tells_a_password() {
        assert_eq!(secret_of("echo secret; echo more").unwrap().expose_secret(), "secret");
        assert!(
            secret_of("echo 'the store is locked' >&2; exit 2")
                .unwrap_err()
                .contains("exit code 2: the store is locked")
        );
        assert!(secret_of("true").unwrap_err().contains("empty"));
    }
}
