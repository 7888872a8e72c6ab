//! Decodes escapes: every text that a reader may decode from another, and where each of its bytes comes from. Knows no
//! secrets.

/// A text with its escapes undone, and where each of its bytes stood.
pub(super) struct View {
    pub(super) bytes: Vec<u8>,
    pub(super) at: Vec<usize>,
}

/// Undoes the escape at the beginning of a text: the bytes it stands for, and its length.
type Decode = fn(&[u8]) -> Option<(Vec<u8>, usize)>;

const DECODERS: [Decode; 5] = [percent, form, backslash, entity, control];
/// How many escapes may lie one inside the other: words in a JSON document that is quoted in another.
const ESCAPES_OF_ESCAPES: usize = 2;

impl View {
    pub(super) fn of(text: &str) -> Self {
        Self { bytes: text.into(), at: (0..text.len()).collect() }
    }

    /// The same with the escapes of one kind undone; none where there are no such escapes.
    fn undone(&self, decode: Decode) -> Option<Self> {
        let (mut bytes, mut at, mut next) = (Vec::new(), Vec::new(), 0);
        let mut is_other = false;
        while next < self.bytes.len() {
            if let Some((decoded, length)) = decode(&self.bytes[next..]) {
                is_other = true;
                at.extend(decoded.iter().map(|_| self.at[next]));
                bytes.extend(decoded);
                next += length;
            } else {
                at.push(self.at[next]);
                bytes.push(self.bytes[next]);
                next += 1;
            }
        }
        is_other.then_some(Self { bytes, at })
    }

    /// Shows this view, and all that escapes within escapes may stand for.
    pub(super) fn each(&self, see: &mut impl FnMut(&Self)) {
        self.each_down_to(ESCAPES_OF_ESCAPES, see);
    }

    fn each_down_to(&self, times: usize, see: &mut impl FnMut(&Self)) {
        see(self);
        if times > 0 {
            for view in DECODERS.iter().filter_map(|decode| self.undone(*decode)) {
                view.each_down_to(times - 1, see);
            }
        }
    }
}

fn percent(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let digits = text.strip_prefix(b"%")?.get(..2)?;
    let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((vec![byte], 3))
}

/// As in the body of a form: a space is a plus.
fn form(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    if text.starts_with(b"+") { Some((vec![b' '], 1)) } else { percent(text) }
}

/// As in JSON, and in texts of Go, C and Python.
fn backslash(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let number = |from: usize, to: usize| {
        let digits = std::str::from_utf8(text.get(from..to)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let written = |code: u32, length: usize| Some((char::from_u32(code)?.to_string().into_bytes(), length));
    match *text.strip_prefix(b"\\")?.first()? {
        b'u' => {
            let first = number(2, 6)?;
            let second = text.get(6..8).filter(|next| next == b"\\u").and_then(|_| number(8, 12));
            match (first, second) {
                (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
                    written(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
                }
                _ => written(first, 6),
            }
        }
        b'U' => written(number(2, 10)?, 10),
        b'x' => Some((vec![u8::try_from(number(2, 4)?).ok()?], 4)),
        b'n' => Some((vec![b'\n'], 2)),
        b'r' => Some((vec![b'\r'], 2)),
        b't' => Some((vec![b'\t'], 2)),
        c @ (b'"' | b'\\' | b'/' | b'\'') => Some((vec![c], 2)),
        _ => None,
    }
}

/// What is not seen on a terminal, or is shown there as nothing that belongs to the text.
fn control(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let length = match *text {
        [0x1b, b'[', ref rest @ ..] => {
            2 + rest.iter().position(|byte| (0x40..0x7f).contains(byte)).map_or(0, |end| end + 1)
        }
        [0..0x20 | 0x7f, ..] => 1,
        [0xc2, 0x80..0xa0 | 0xad, ..] => 2,
        // Of no width, or of another direction; what stands for bytes that are no text.
        [0xe2, 0x80, 0x8b..=0x8f | 0xa8..=0xae, ..]
        | [0xe2, 0x81, 0xa0..=0xaf, ..]
        | [0xef, 0xbb, 0xbf, ..]
        | [0xef, 0xbf, 0xbd, ..] => 3,
        _ => return None,
    };
    Some((Vec::new(), length))
}

fn entity(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let end = text.iter().take(10).position(|&byte| byte == b';')?;
    let name = std::str::from_utf8(text[..end].strip_prefix(b"&")?).ok()?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((c.to_string().into_bytes(), end + 1))
}
