//! Credentials, in the order in which people expect them to be found: flags, environment, files and helpers, a question
//! on the terminal, and else an error that says all this.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use super::output::Output;
use crate::registry::{ClientOptions, Credential, Kind, Registry, Target, credentials};
use crate::report::{Class, Failure};

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
    /// User name
    #[arg(long, env = "LAYERCAST_USERNAME", value_name = "NAME")]
    username: Option<String>,
    /// Password; other users of this machine can see it (ps): prefer --password-stdin or --password-file
    #[arg(long, value_name = "PASSWORD", conflicts_with_all = ["password_stdin", "password_file"])]
    password: Option<SecretString>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password_file")]
    password_stdin: bool,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A docker config.json to take credentials from, instead of the usual ones
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
}

const MAX_PASSWORD_BYTES: u64 = 64 << 10;

impl CredentialArgs {
    /// The credential that flags and environment give, if any. Reads standard input at most once.
    pub(super) fn given(&self, output: &Output) -> Result<Option<Credential>, Failure> {
        if self.unneeded() {
            return Ok(None);
        }
        let password = if let Some(password) = &self.password {
            output.warn("--password shows in the process list; --password-stdin and --password-file do not");
            Some(password.clone())
        } else if self.password_stdin {
            Some(
                first_line(std::io::stdin())
                    .map_err(|error| Failure::usage(format!("--password-stdin: {error}")))?,
            )
        } else if let Some(path) = &self.password_file {
            let read = std::fs::File::open(path).and_then(first_line);
            Some(
                read.map_err(|error| Failure::usage(format!("--password-file {}: {error}", path.display())))?,
            )
        } else {
            std::env::var("LAYERCAST_PASSWORD").ok().map(SecretString::from)
        };
        match (self.username.clone(), password) {
            (Some(user), Some(password)) => Ok(Some(Credential::Basic { user, password })),
            (Some(user), None) if std::io::stdin().is_terminal() => {
                let password = rpassword::prompt_password(format!("Password of {user}: "));
                let password =
                    password.map_err(|error| Failure::usage(format!("reading the password: {error}")))?;
                Ok(Some(Credential::Basic { user, password: password.into() }))
            }
            (Some(user), None) => Err(Failure::new(Class::Auth, format!("no password for user {user}"))
                .hint("give it with --password-stdin, --password-file or LAYERCAST_PASSWORD")),
            (None, Some(_)) => Err(Failure::usage("a password was given, but no --username")),
            (None, None) => Ok(None),
        }
    }

    /// Whether the password comes from standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        self.password_stdin
    }

    fn unneeded(&self) -> bool {
        !self.need_credential || self.no_registry_credential
    }

    /// The credential for one mirror; `own` is the docker config.json that belongs to this mirror alone.
    pub(super) async fn find(
        &self,
        given: Option<&Credential>,
        own: Option<&Path>,
        target: &Target,
        options: &ClientOptions,
    ) -> Result<Option<Credential>, Failure> {
        if given.is_some() || self.unneeded() {
            return Ok(given.cloned());
        }
        let host = target.endpoint.authority();
        let found = match self.credential_file.as_deref().or(own) {
            Some(path) => credentials::from_file(path, &host)?,
            None => credentials::find(&host)?,
        };
        if found.is_some() {
            return Ok(found);
        }
        // Nothing is known. Many mirrors want nothing: ask them before asking a person.
        let mut options = options.clone();
        // Whether it is there at all is for the run to find out, with all its patience.
        options.retry.connect_patience = Duration::ZERO;
        match Registry::connect(&target.endpoint, options).await {
            Err(error) if error.kind() == Kind::Auth => {}
            // It takes everyone; or it has another problem, which the run will tell of.
            _ => return Ok(None),
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(Class::Auth, format!("{host} needs credentials, and none were found")).hint(
                "give --username with --password-stdin or --password-file, set LAYERCAST_USERNAME and LAYERCAST_PASSWORD, \
                 or log in with docker or podman; --need-credential=false asks for nothing",
            ));
        }
        ask(&host).map(Some)
    }
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
            .ok_or_else(|| Failure::new(Class::Auth, format!("{answer} has no credentials for {host}")));
    }
    if answer.is_empty() {
        return Err(Failure::new(Class::Auth, "no user name was given"));
    }
    let password = rpassword::prompt_password(format!("Password of {answer}: ")).map_err(failed)?;
    Ok(Credential::Basic { user: answer, password: password.into() })
}

fn first_line(from: impl std::io::Read) -> std::io::Result<SecretString> {
    let mut text = String::new();
    from.take(MAX_PASSWORD_BYTES).read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(std::io::Error::other("it is empty"));
    }
    Ok(line.to_owned().into())
}
