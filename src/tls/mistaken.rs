//! Recognises a file that was given for PEM and is not, and says how to convert it. Pure.

use super::facts::Facts;

/// PKCS #7 `signedData`, as the bytes of its OID.
const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";

/// What it is, and what to do, with the file's name in it.
pub(super) fn identify(bytes: &[u8], name: &str) -> (&'static str, Option<String>) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let text = text.trim_start_matches('\u{feff}').trim();
    let run = |command: &str| Some(format!("convert it: {command}"));
    if bytes.iter().all(u8::is_ascii_whitespace) {
        ("it is empty", None)
    } else if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        ("it is UTF-16 text", run(&format!("iconv -f UTF-16 -t UTF-8 {name} > {name}.pem")))
    } else if text.starts_with('<') {
        ("it is HTML or XML, perhaps a login page that was saved in its place", None)
    } else if text.starts_with("-----BEGIN PKCS7") || text.starts_with("-----BEGIN CMS") {
        let command = format!("openssl pkcs7 -in {name} -print_certs -out {name}.pem");
        ("it is PKCS #7 (.p7b)", run(&command))
    } else if text.starts_with("-----BEGIN TRUSTED CERTIFICATE") {
        let command = format!("openssl x509 -in {name} -out {name}.pem");
        ("it is a certificate in OpenSSL's own form (TRUSTED CERTIFICATE)", run(&command))
    } else if text.starts_with("-----BEGIN OPENSSH") || text.starts_with("ssh-") || text.starts_with("ecdsa-")
    {
        ("it is a key of SSH, which TLS does not use", None)
    } else if text.starts_with("LS0tLS1CRUdJTi") {
        (
            "it is PEM in base64 once more, as in a Kubernetes Secret",
            run(&format!("base64 -d {name} > {name}.pem")),
        )
    } else if text.starts_with("MII") {
        ("it is base64 without the BEGIN and END lines of PEM", None)
    } else if bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) {
        let command = format!("keytool -exportcert -rfc -keystore {name} -file {name}.pem");
        ("it is a Java key store", run(&command))
    } else if bytes.starts_with(&[0x30]) && Facts::read(bytes).is_some() {
        let command = format!("openssl x509 -inform der -in {name} -out {name}.pem");
        ("it is a certificate in DER form", run(&command))
    } else if bytes.starts_with(&[0x30])
        && bytes.iter().take(64).count() > 16
        && bytes[..16].windows(3).any(|w| w == [2, 1, 3])
    {
        let command = format!("openssl pkcs12 -in {name} -nodes -out {name}.pem");
        ("it is PKCS #12 (.p12, .pfx)", run(&command))
    } else if bytes.starts_with(&[0x30])
        && bytes.windows(SIGNED_DATA.len()).take(32).any(|w| w == SIGNED_DATA)
    {
        let command = format!("openssl pkcs7 -inform der -in {name} -print_certs -out {name}.pem");
        ("it is PKCS #7 (.p7b) in DER form", run(&command))
    } else if text.contains('\0') || text.contains('\u{fffd}') {
        ("it is not text", None)
    } else {
        ("it is some other text", None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_give_in_place_of_pem_is_named() {
        let der = rcgen::CertificateParams::new(vec!["r".to_owned()]).unwrap();
        let der = der.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let pkcs12 = [&[0x30, 0x82, 9, 9, 2, 1, 3, 0x30][..], &[0; 60]].concat();
        let pkcs7 = [&[0x30, 0x82, 9, 9][..], SIGNED_DATA, &[0; 60]].concat();
        for (bytes, expected) in [
            (&b" \n"[..], "empty"),
            (b"<!DOCTYPE html>", "HTML"),
            (b"\xff\xfe-\0-\0", "UTF-16"),
            (b"-----BEGIN PKCS7-----\n", "PKCS #7"),
            (b"-----BEGIN TRUSTED CERTIFICATE-----\n", "OpenSSL's own"),
            (b"ssh-ed25519 AAAA", "SSH"),
            (b"LS0tLS1CRUdJTiBDRVJU", "Secret"),
            (b"MIIBszCCAVmgAwIBAgIU", "without the BEGIN"),
            (b"\xfe\xed\xfe\xed\0\0", "Java"),
            (&der, "DER form"),
            (&pkcs12, "PKCS #12"),
            (&pkcs7, "PKCS #7"),
            (b"\0\x01\x02", "not text"),
            (b"hello", "other text"),
        ] {
            let (what, fix) = identify(bytes, "ca.crt");
            assert!(what.contains(expected), "{what}, not {expected}");
            assert!(fix.is_none_or(|fix| fix.contains("ca.crt")), "{what}");
        }
    }
}
