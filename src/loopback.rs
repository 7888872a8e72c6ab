//! What is this machine itself, where TLS protects nothing and nobody else listens. Pure: no name is looked up.

use std::net::IpAddr;

/// Whether an address is one of this machine alone, also when it is an IPv4 address written as one of IPv6.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether a name stands for this machine whatever a resolver says of it (RFC 6761, 6.3): `localhost`, and all below it.
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let tail = name.len().checked_sub("localhost".len()).and_then(|at| name.split_at_checked(at));
    tail.is_some_and(|(before, tail)| {
        tail.eq_ignore_ascii_case("localhost") && (before.is_empty() || before.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), expected, "{address}");
        }
        for (name, expected) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("a.localhost", true),
            ("alocalhost", false),
            ("localhost.example", false),
            ("", false),
            ("ünlocalhost", false),
        ] {
            assert_eq!(is_localhost(name), expected, "{name}");
        }
    }
}
