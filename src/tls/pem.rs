//! Takes a PEM file ([RFC 7468](https://www.rfc-editor.org/rfc/rfc7468)) apart as files really are: with a byte order mark,
//! indented, with CRLF, with text around the blocks, and with one damaged block among good ones. Pure.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// Some tools leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// One block of a PEM file.
#[derive(Debug)]
pub(super) struct Block {
    /// The line that it begins on.
    pub(super) line: usize,
    /// What it says it is, as `CERTIFICATE`.
    pub(super) label: String,
    pub(super) content: BlockContent,
}

#[derive(Debug)]
pub(super) enum BlockContent {
    Certificate(CertificateDer<'static>),
    Key(PrivateKeyDer<'static>),
    /// A key that only a passphrase opens.
    EncryptedKey,
    /// Something that is neither certificate nor key.
    Other,
    /// A block that cannot be read, with the reason.
    Damaged(&'static str),
}

/// The blocks of a file, in order. A file that is not PEM has none.
pub(super) fn blocks(bytes: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(bytes);
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, Vec<&str>)> = None;
    // A line ends with LF, CRLF, or CR alone.
    let lines = text.split('\n').flat_map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.split('\r')
    });
    for (number, line) in lines.enumerate() {
        let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        // What stands before it on the line is text of others.
        let begins = line.find(BEGIN).map(|at| &line[at + BEGIN.len()..]);
        if let Some(label) = begins.and_then(|rest| rest.strip_suffix(DASHES)) {
            let cut = open.replace((number + 1, label.to_owned(), Vec::new()));
            blocks.extend(cut.map(|(line, label, _)| Block::damaged(line, label, "it has no END line")));
        } else if line.starts_with(END) {
            blocks.extend(open.take().map(|(at, label, body)| {
                let is_its_own = line[END.len()..].strip_suffix(DASHES) == Some(label.as_str());
                if is_its_own {
                    Block::new(at, label, &body)
                } else {
                    Block::damaged(at, label, "its END line is that of something else")
                }
            }));
        } else if let Some((_, _, body)) = &mut open {
            body.push(line);
        }
    }
    blocks.extend(open.map(|(line, label, _)| Block::damaged(line, label, "the file ends inside it")));
    blocks
}

impl Block {
    fn damaged(line: usize, label: String, why: &'static str) -> Self {
        Self { line, label, content: BlockContent::Damaged(why) }
    }

    fn new(line: usize, label: String, body: &[&str]) -> Self {
        // Headers, as those of an encrypted key, end with an empty line.
        let headers = body.iter().take_while(|line| line.contains(':')).count();
        let is_encrypted = body[..headers].iter().any(|line| line.contains("ENCRYPTED"));
        let encoded: String = body[headers..].concat();
        let decoded = BASE64.decode(encoded.split_whitespace().collect::<String>());
        let content = match (label.as_str(), decoded) {
            ("ENCRYPTED PRIVATE KEY", _) => BlockContent::EncryptedKey,
            (label, _) if is_encrypted && label.ends_with("PRIVATE KEY") => BlockContent::EncryptedKey,
            (
                "CERTIFICATE" | "X509 CERTIFICATE" | "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY",
                Err(_),
            ) => BlockContent::Damaged("what it holds is not base64"),
            ("CERTIFICATE" | "X509 CERTIFICATE", Ok(der)) => BlockContent::Certificate(der.into()),
            ("PRIVATE KEY", Ok(der)) => BlockContent::Key(PrivateKeyDer::Pkcs8(der.into())),
            ("RSA PRIVATE KEY", Ok(der)) => BlockContent::Key(PrivateKeyDer::Pkcs1(der.into())),
            ("EC PRIVATE KEY", Ok(der)) => BlockContent::Key(PrivateKeyDer::Sec1(der.into())),
            _ => BlockContent::Other,
        };
        Self { line, label, content }
    }
}

/// The certificates of a list as one PEM text, with nothing else in it.
pub(super) fn text<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'static>>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = BASE64.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels, lines and kinds in few words.
    fn shape(text: &str) -> Vec<String> {
        let kind = |content: &BlockContent| match content {
            BlockContent::Certificate(der) => format!("certificate of {}", der.len()),
            BlockContent::Key(_) => "key".to_owned(),
            BlockContent::EncryptedKey => "encrypted".to_owned(),
            BlockContent::Other => "other".to_owned(),
            BlockContent::Damaged(why) => (*why).to_owned(),
        };
        blocks(text.as_bytes())
            .iter()
            .map(|block| format!("{} {}", block.line, kind(&block.content)))
            .collect()
    }

    fn block(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn good_blocks_are_found_among_whatever_stands_around_them() {
        let good = block("CERTIFICATE", "MAMC\nAQE=");
        let found = ["certificate of 5".to_owned()];
        let only = |text: &str| shape(text).into_iter().map(|it| it[2..].to_owned()).collect::<Vec<_>>();
        assert_eq!(only(&good), found);
        assert_eq!(only(&format!("\u{feff}{good}")), found);
        assert_eq!(only(&good.replace('\n', "\r\n")), found);
        assert_eq!(only(&good.replace('\n', "\r")), found);
        assert_eq!(only(&good.replace('\n', "\n    ")), found);
        assert_eq!(only(good.trim_end()), found);
        assert_eq!(only(&good.replace("AQE=", "AQE")), found, "padding");
        assert_eq!(only(&format!("Bag Attributes\n  friendlyName: x\n\n# Acme\n{good}the end")), found);
        assert_eq!(shape("no PEM at all"), Vec::<String>::new());
    }

    #[test]
    fn a_damaged_block_costs_only_itself() {
        let good = block("CERTIFICATE", "MAMCAQE=");
        let cases = [
            (block("CERTIFICATE", "M%%%"), "what it holds is not base64"),
            ("-----BEGIN CERTIFICATE-----\nMAMC\n".to_owned(), "it has no END line"),
            (
                "-----BEGIN CERTIFICATE-----\nMAMC\n-----END X-----\n".to_owned(),
                "its END line is that of something else",
            ),
        ];
        for (damaged, why) in cases {
            let line = damaged.lines().count() + 1;
            let expected = [format!("1 {why}"), format!("{line} certificate of 5")];
            assert_eq!(shape(&format!("{damaged}{good}")), expected);
        }
        assert_eq!(shape("-----BEGIN CERTIFICATE-----\nMAMC"), ["1 the file ends inside it"]);
    }

    #[test]
    fn keys_are_told_from_encrypted_ones() {
        let classic = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAMCAQE=";
        let text = [
            block("EC PARAMETERS", "BggqhkjOPQMBBw=="),
            block("EC PRIVATE KEY", "MAMCAQE="),
            block("ENCRYPTED PRIVATE KEY", "MAMCAQE="),
            block("RSA PRIVATE KEY", classic),
        ]
        .concat();
        assert_eq!(shape(&text), ["1 other", "4 key", "7 encrypted", "10 encrypted"]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let der = CertificateDer::from(vec![7; 100]);
        let text = text([&der].into_iter());
        assert!(text.lines().all(|line| line.len() <= 64));
        assert!(
            matches!(&blocks(text.as_bytes())[..], [Block { content: BlockContent::Certificate(read), .. }] if *read == der)
        );
    }
}
