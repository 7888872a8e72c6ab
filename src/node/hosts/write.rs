//! From a [`HostsFile`] to text. What is written parses back to the same, whatever the values hold.

use std::fmt::{self, Write as _};

use secrecy::ExposeSecret;

use super::{HostSettings, HostsFile};
use crate::document::Quoted;

/// A list of strings; a single one stands without brackets if `bare`.
pub(crate) struct List<'a, T> {
    pub(crate) items: &'a [T],
    pub(crate) bare: bool,
}

impl<T: AsRef<str>> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([item], true) = (self.items, self.bare) {
            return write!(f, "{}", Quoted(item.as_ref()));
        }
        f.write_char('[')?;
        for (number, item) in self.items.iter().enumerate() {
            write!(f, "{}{}", if number == 0 { "" } else { ", " }, Quoted(item.as_ref()))?;
        }
        f.write_char(']')
    }
}

impl fmt::Display for HostsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            writeln!(f, "server = {}", Quoted(server))?;
        }
        settings(f, &self.root, "", "")?;
        for (number, (url, host)) in self.hosts.iter().enumerate() {
            if number > 0 || self.server.is_some() {
                writeln!(f)?;
            }
            let table = format!("host.{}", Quoted(url));
            writeln!(f, "[{table}]")?;
            settings(f, host, "  ", &format!("{table}."))?;
        }
        Ok(())
    }
}

/// `header` is a table of its own, which must come last: of the root it would swallow what follows, so it is inline there.
fn settings(f: &mut fmt::Formatter<'_>, settings: &HostSettings, indent: &str, table: &str) -> fmt::Result {
    if !settings.capabilities.is_empty() {
        let names: Vec<&str> = settings.capabilities.iter().map(|capability| capability.name()).collect();
        writeln!(f, "{indent}capabilities = {}", List { items: &names, bare: false })?;
    }
    if !settings.ca.is_empty() {
        writeln!(f, "{indent}ca = {}", List { items: &settings.ca, bare: true })?;
    }
    if !settings.client.is_empty() {
        let pair = |pair: &super::ClientPair| match &pair.key {
            Some(key) => format!("[{}, {}]", Quoted(&pair.certificate), Quoted(key)),
            None => Quoted(&pair.certificate).to_string(),
        };
        let pairs: Vec<String> = settings.client.iter().map(pair).collect();
        writeln!(f, "{indent}client = [{}]", pairs.join(", "))?;
    }
    if let Some(skip) = settings.skip_verify {
        writeln!(f, "{indent}skip_verify = {skip}")?;
    }
    if settings.override_path {
        writeln!(f, "{indent}override_path = true")?;
    }
    if let Some(timeout) = settings.dial_timeout {
        let text = match (timeout.as_secs(), timeout.subsec_nanos()) {
            (seconds, 0) => format!("{seconds}s"),
            (seconds, nanos) => format!("{seconds}s{nanos}ns"),
        };
        writeln!(f, "{indent}dial_timeout = {}", Quoted(&text))?;
    }
    if settings.header.is_empty() {
        return Ok(());
    }
    let lines = settings.header.iter().map(|(name, values)| {
        let values: Vec<&str> = values.iter().map(ExposeSecret::expose_secret).collect();
        format!("{} = {}", Quoted(name), List { items: &values, bare: true })
    });
    if table.is_empty() {
        return writeln!(f, "header = {{ {} }}", lines.collect::<Vec<_>>().join(", "));
    }
    writeln!(f, "{indent}[{table}header]")?;
    for line in lines {
        writeln!(f, "{indent}  {line}")?;
    }
    Ok(())
}
