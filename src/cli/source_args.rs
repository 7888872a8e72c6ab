//! Flags about registries that are sources: who we are there, and whom we trust. Those about mirrors are not for them.

use std::env::VarError;
use std::path::{Path, PathBuf};

use clap::Args;

use super::credentials::{read_again, secret_in, secret_of};
use super::mirror_args::authorities;
use super::output::Output;
use super::registry_source::SourceRegistry;
use crate::config::RegistrySource;
use crate::registry::{Access, ClientOptions, Credential, CredentialSource, Target, credentials};
use crate::report::{Class, Failure};
use crate::tls::ClientCertificate;

const USERNAME: &str = "LAYERCAST_SOURCE_USERNAME";
const PASSWORD: &str = "LAYERCAST_SOURCE_PASSWORD";

/// Flags about registries that are sources.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Source registry")]
#[expect(
    clippy::struct_field_names,
    reason = "a command has the same flags about mirrors, without the prefix"
)]
pub(super) struct SourceArgs {
    /// User name at the registry that is the source; the password is in a file, comes from a command, or is in
    /// $LAYERCAST_SOURCE_PASSWORD [default: what docker, podman and helpers have for it]
    #[arg(long, env = USERNAME, value_name = "NAME")]
    source_username: Option<String>,
    /// Read its password from the first line of a file
    #[arg(long, value_name = "FILE", conflicts_with = "source_password_command")]
    source_password_file: Option<PathBuf>,
    /// Read its password from the first line of what a command of the shell writes
    #[arg(long, value_name = "COMMAND")]
    source_password_command: Option<String>,
    /// A docker config.json or podman auth.json with its credentials, instead of the usual files
    #[arg(long, value_name = "FILE", conflicts_with = "source_username")]
    source_credential_file: Option<PathBuf>,
    /// Host of a token server that may be shown its credentials, although it is not of the registry's own domain (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    source_auth_realm: Vec<String>,
    /// CA certificates (PEM) to trust for it besides the system's (repeatable)
    #[arg(long, value_name = "FILE")]
    source_cacert: Vec<PathBuf>,
    /// Client certificate (PEM) for it
    #[arg(long, value_name = "FILE")]
    source_client_cert: Option<PathBuf>,
    /// Key of that certificate (PEM) [default: it is in the certificate's file]
    #[arg(long, value_name = "FILE", requires = "source_client_cert")]
    source_client_key: Option<PathBuf>,
}

impl SourceArgs {
    /// The registries, each with how it is asked. What the flags say holds for the host of all of them.
    ///
    /// # Errors
    /// Credentials are given for no source, or for sources on several hosts; or a file cannot be used.
    pub(super) fn registries(
        &self,
        sources: Vec<RegistrySource>,
        output: &Output,
    ) -> Result<Vec<SourceRegistry>, Failure> {
        let places = sources.into_iter().map(|source| {
            let target: Target = source.place.parse()?;
            Ok((source, target))
        });
        let places = places.collect::<Result<Vec<_>, Failure>>()?;
        self.check(&places)?;
        let registry = |(source, target): (RegistrySource, Target)| {
            let client = self.client(&target, output)?;
            Ok(SourceRegistry { source, target, client })
        };
        places.into_iter().map(registry).collect()
    }

    /// A secret goes to the one host that it is for.
    fn check(&self, places: &[(RegistrySource, Target)]) -> Result<(), Failure> {
        let given = [
            ("--source-username", self.source_username.is_some()),
            ("--source-password-file", self.source_password_file.is_some()),
            ("--source-password-command", self.source_password_command.is_some()),
            ("--source-credential-file", self.source_credential_file.is_some()),
            ("--source-auth-realm", !self.source_auth_realm.is_empty()),
            ("--source-cacert", !self.source_cacert.is_empty()),
            ("--source-client-cert", self.source_client_cert.is_some()),
        ];
        let of_environment = self.source_username.is_some() && std::env::var_os(USERNAME).is_some();
        let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
        let Some((_, first)) = places.first() else {
            if of_environment {
                return Ok(());
            }
            return Err(Failure::usage(format!(
                "{flag} is for a registry that is a source, and none is given"
            ))
            .hint("name one: --source registry:HOST[:PORT][/NAMESPACE]"));
        };
        let is_elsewhere =
            |(_, target): &&(RegistrySource, Target)| target.endpoint.place() != first.endpoint.place();
        let Some((_, other)) = places.iter().find(is_elsewhere) else { return Ok(()) };
        let message = format!("{flag} is for one registry, and the sources are on {first} and {other}");
        Err(Failure::usage(message).hint("log in to each with docker or podman, or use a sites file"))
    }

    fn client(&self, target: &Target, output: &Output) -> Result<ClientOptions, Failure> {
        let mut client = ClientOptions {
            access: Access::Pull,
            auth_realms: self.source_auth_realm.clone(),
            ..ClientOptions::default()
        };
        for path in &self.source_cacert {
            client.authorities.push(authorities(path, output)?);
        }
        if let Some(certificate) = &self.source_client_cert {
            let key = self.source_client_key.as_ref().unwrap_or(certificate);
            client.client_certificates.push(ClientCertificate::read(certificate, key)?);
        }
        client.must_speak_tls = !self.source_cacert.is_empty() || self.source_client_cert.is_some();
        if let Some(given) = self.given(target)? {
            client.credential = Some(given);
            return Ok(client);
        }
        let name = target.to_string();
        let found = match &self.source_credential_file {
            Some(path) => credentials::from_file(path, &name)?,
            None => credentials::find(&name),
        };
        found.troubles.iter().for_each(|trouble| output.warn(trouble));
        if let Some(path) = self
            .source_credential_file
            .as_ref()
            .filter(|_| found.credential.is_none() && found.below.is_empty() && found.troubles.is_empty())
        {
            output.warn(&format!("{} has no credentials for {name}", path.display()));
        }
        (client.credential, client.credentials_below) = (found.credential, found.below);
        Ok(client)
    }

    /// The credential that flags and environment give.
    fn given(&self, target: &Target) -> Result<Option<Credential>, Failure> {
        let from = "--source-username";
        let user = self.source_username.as_ref();
        let found = if let Some(path) = &self.source_password_file {
            let shown = path.display().to_string();
            let password = secret_in(path).map_err(|why| {
                Failure::usage(format!("--source-password-file {shown}: {why}"))
                    .hint("name a file that this user may read; its first line is the password")
            })?;
            Some((password, read_again(from, user, &shown, |path| secret_in(Path::new(path)).ok())))
        } else if let Some(command) = &self.source_password_command {
            let password = secret_of(command).map_err(|why| {
                Failure::new(Class::Auth, format!("--source-password-command {command}: {why}"))
                    .hint("run it in a shell: it must end with 0 and write the password as its first line")
            })?;
            Some((password, read_again(from, user, command, |command| secret_of(command).ok())))
        } else {
            match std::env::var(PASSWORD) {
                Ok(password) => Some((password.into(), CredentialSource::fixed(from))),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => {
                    return Err(Failure::usage(format!("{PASSWORD} is not UTF-8 text")));
                }
            }
        };
        match (user, found) {
            (Some(user), Some((password, origin))) => {
                Ok(Some(Credential::password(user.clone(), password, origin)))
            }
            (Some(user), None) => Err(Failure::new(
                Class::Auth,
                format!("no password for user {user} of the source {target}"),
            )
            .hint(
                "give it with --source-password-file, --source-password-command or LAYERCAST_SOURCE_PASSWORD",
            )),
            (None, Some(_)) => Err(Failure::usage(format!(
                "a password was given for the source {target}, but no --source-username"
            ))),
            (None, None) => Ok(None),
        }
    }
}
