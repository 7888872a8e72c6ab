//! Walks the headers of a tar and never touches what lies between them.
//!
//! In: a space of bytes. Out: its members, with names and sizes as GNU tar and POSIX (PAX) mean them, and where their
//! bytes lie. Strict where two readers could disagree: each header's checksum counts, a PAX record that cannot be read
//! is an error, and so is a size that two places state differently. Never looks at what a member holds, follows no
//! link, writes nothing.

mod header;

use std::collections::HashMap;

use bytes::Bytes;

use self::header::{BLOCK, checksum_fits, decimal, is_zero, number, pax_records};
pub(super) use self::header::{begins_like_tar, holds_header};
use crate::archive::limits::{Allowance, Limits, check_length};
use crate::error::{BundleError, Fault};
use crate::source::{ByteSpace, read_exact, read_up_to};

/// How far after the end-of-archive blocks a second tar is looked for. Writers pad to 10 KiB, tape users to more.
const PADDING_LOOKED_AT: u64 = 1 << 20;

/// What a member is that stands for more bytes than it has.
pub(super) const SPARSE: &str = "a sparse file";
/// What members are that have no bytes.
pub(super) const DEVICE: &str = "a device";
pub(super) const PIPE: &str = "a named pipe";

/// One member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kind: MemberKind,
    /// Where its bytes begin.
    pub(super) offset: u64,
    /// How many they are; zero for what has none.
    pub(super) len: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Directory,
    Symlink(String),
    Hardlink(String),
    /// What cannot be read as a plain file, and what it is.
    Odd(&'static str),
}

/// How a tar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TarEnd {
    /// With its two zero blocks.
    Marked,
    /// With whole members, but without the two zero blocks.
    Unmarked,
    /// With zero blocks, after which another tar begins at this offset.
    AnotherTar(u64),
}

/// Steps from header to header.
#[derive(Debug)]
pub(super) struct Walker<'a> {
    space: &'a dyn ByteSpace,
    limits: &'a Limits,
    allowance: &'a Allowance,
    at: u64,
    last: String,
    ending: Option<TarEnd>,
}

/// What extension headers say about the member that follows them.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: HashMap<Vec<u8>, Vec<u8>>,
    any: bool,
}

impl<'a> Walker<'a> {
    pub(super) fn new(space: &'a dyn ByteSpace, limits: &'a Limits, allowance: &'a Allowance) -> Self {
        Self { space, limits, allowance, at: 0, last: String::new(), ending: None }
    }

    /// Where the next header is.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// How it ended, once [`Walker::next`] has given `None`.
    pub(super) fn ending(&self) -> Option<TarEnd> {
        self.ending
    }

    /// The next member, or `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Member>, BundleError> {
        let mut extensions = Extensions::default();
        while self.ending.is_none() {
            let Some(block) = self.header_block(&extensions)? else { break };
            self.allowance.take_entry()?;
            if !checksum_fits(&block) {
                return Err(self.corrupt("the checksum of the header is wrong"));
            }
            let size = number(&block[124..136])
                .ok_or_else(|| self.corrupt("the size in the header is not a possible number"))?;
            match block[156] {
                b'x' | b'X' => {
                    check_length("a PAX header", size, self.limits.pax_bytes).map_err(|e| self.here(e))?;
                    let body = self.take_body(size)?;
                    let records =
                        pax_records(&body).ok_or_else(|| self.corrupt("a PAX record is malformed"))?;
                    extensions.pax.extend(records);
                    extensions.any = true;
                }
                // Global headers hold comments (git) and defaults nobody relies on.
                b'g' => {
                    check_length("a PAX header", size, self.limits.pax_bytes).map_err(|e| self.here(e))?;
                    self.at = self.after(self.at, size)?;
                }
                flag @ (b'L' | b'K') => {
                    check_length("a long name", size, self.limits.name_bytes).map_err(|e| self.here(e))?;
                    let mut name = self.take_body(size)?;
                    name.truncate(name.iter().position(|&c| c == 0).unwrap_or(name.len()));
                    *(if flag == b'L' { &mut extensions.name } else { &mut extensions.link }) = Some(name);
                    extensions.any = true;
                }
                _ => return self.member(&block, size, extensions).map(Some),
            }
        }
        Ok(None)
    }

    /// The block at hand; `None` where the archive ends.
    fn header_block(&mut self, extensions: &Extensions) -> Result<Option<Bytes>, BundleError> {
        let block = read_up_to(self.space, self.at, BLOCK)?;
        if block.is_empty() {
            let len = self.space.len()?;
            if self.at > len {
                return Err(BundleError::new(
                    Fault::Truncated,
                    format!(
                        "ends at byte {len}, inside the member {:?} that reaches to {}",
                        self.last, self.at
                    ),
                ));
            }
        }
        if (block.is_empty() || is_zero(&block)) && extensions.any {
            return Err(self.corrupt("an extension header belongs to no member"));
        }
        if block.is_empty() {
            self.ending = Some(TarEnd::Unmarked);
            return Ok(None);
        }
        if block.len() < BLOCK {
            let end = self.at + block.len() as u64;
            return Err(BundleError::new(
                Fault::Truncated,
                format!("ends at byte {end}, inside the header after the member {:?}", self.last),
            ));
        }
        if is_zero(&block) {
            self.ending = Some(self.look_behind_the_end()?);
            return Ok(None);
        }
        Ok(Some(block))
    }

    /// Tells padding and junk, which nobody reads, from a second tar, whose images nobody should lose unnoticed, and from
    /// members behind a lone block of zeros, where GNU tar stops with a warning and Go's reader with an error.
    fn look_behind_the_end(&self) -> Result<TarEnd, BundleError> {
        let mut at = self.at + BLOCK as u64;
        let mut ending = TarEnd::Unmarked;
        while at - self.at <= PADDING_LOOKED_AT {
            let block = read_up_to(self.space, at, BLOCK)?;
            if block.len() < BLOCK {
                break;
            }
            if !is_zero(&block) {
                return match (checksum_fits(&block), ending) {
                    (true, TarEnd::Unmarked) => Err(self
                        .corrupt("a lone block of zeros stands here, and members go on behind it (a tar ends with two)")
                        .hint("fetch it again, or have `tar --ignore-zeros` unpack it and give the folder")),
                    (true, _) => Ok(TarEnd::AnotherTar(at)),
                    (false, ending) => Ok(ending),
                };
            }
            ending = TarEnd::Marked;
            at += BLOCK as u64;
        }
        Ok(ending)
    }

    fn member(&mut self, block: &[u8], stated: u64, extensions: Extensions) -> Result<Member, BundleError> {
        let header = tar::Header::from_byte_slice(block);
        let Extensions { name, link, pax, .. } = extensions;
        let text = |key: &[u8]| pax.get(key).filter(|value| !value.is_empty());
        let mut name = match text(b"path").cloned().or(name) {
            Some(name) => name,
            None => header.path_bytes().into_owned(),
        };
        let link = match text(b"linkpath").cloned().or(link) {
            Some(link) => link,
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        self.last = String::from_utf8_lossy(&name).into_owned();
        let longest = name.len().max(link.len()) as u64;
        check_length("a member's name", longest, self.limits.name_bytes).map_err(|e| self.here(e))?;
        if name.contains(&0) || link.contains(&0) {
            return Err(self.corrupt("a name holds a NUL byte"));
        }
        let size = match text(b"size") {
            None => stated,
            Some(value) => {
                let size = decimal(value).ok_or_else(|| self.corrupt("the PAX size is not a number"))?;
                // Two readers would see two different archives (CVE-2025-62518).
                if stated != 0 && stated != size {
                    return Err(self.corrupt("header and PAX record state different sizes"));
                }
                size
            }
        };
        let sparse = pax.keys().any(|key| key.starts_with(b"GNU.sparse."));
        if let Some(real) = text(b"GNU.sparse.name") {
            name.clone_from(real);
        }
        let link = String::from_utf8_lossy(&link).into_owned();
        let mut offset = self.at + BLOCK as u64;
        let kind = match block[156] {
            _ if sparse => MemberKind::Odd(SPARSE),
            b'0' | 0 | b'7' if name.ends_with(b"/") => MemberKind::Directory,
            b'1' => MemberKind::Hardlink(link),
            b'2' => MemberKind::Symlink(link),
            b'3' | b'4' => MemberKind::Odd(DEVICE),
            // D: GNU's, with the names of what lies in the folder.
            b'5' | b'D' => MemberKind::Directory,
            b'6' => MemberKind::Odd(PIPE),
            b'S' => {
                offset = self.after_sparse_map(block, offset)?;
                MemberKind::Odd(SPARSE)
            }
            b'M' => MemberKind::Odd("the rest of a file that began on another volume"),
            b'V' => MemberKind::Odd("the name of the archive"),
            // POSIX: what is of an unknown type is to be read as a regular file, which 0, NUL and 7 are.
            _ => MemberKind::File,
        };
        // Links, devices, directories and pipes have no bytes, whatever their size field says (GNU tar, Go, Python).
        let len = if matches!(block[156], b'1'..=b'6') && !sparse { 0 } else { size };
        self.at = self.after(offset - BLOCK as u64, len)?;
        Ok(Member { name: String::from_utf8_lossy(&name).into_owned(), kind, offset, len })
    }

    /// Old GNU sparse members have blocks of their map between header and data.
    fn after_sparse_map(&self, block: &[u8], mut offset: u64) -> Result<u64, BundleError> {
        let mut more = block[482] != 0;
        while more {
            self.allowance.take_entry()?;
            more = self.exact(offset, BLOCK)?[504] != 0;
            offset += BLOCK as u64;
        }
        Ok(offset)
    }

    /// The body of the extension header at hand, which is stepped over. Its size has been checked against a limit.
    fn take_body(&mut self, size: u64) -> Result<Vec<u8>, BundleError> {
        let len = usize::try_from(size).map_err(|_| self.corrupt("an extension header is absurdly long"))?;
        let body = self.exact(self.at + BLOCK as u64, len)?;
        self.at = self.after(self.at, size)?;
        Ok(body)
    }

    fn exact(&self, at: u64, len: usize) -> Result<Vec<u8>, BundleError> {
        read_exact(self.space, at, len)
            .map(Vec::from)
            .map_err(|e| e.at(format!("extension header after the member {:?}", self.last)))
    }

    /// Where the header after a member of `size` bytes stands.
    fn after(&self, header: u64, size: u64) -> Result<u64, BundleError> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let next = padded.and_then(|size| header.checked_add(BLOCK as u64)?.checked_add(size));
        next.filter(|&next| i64::try_from(next).is_ok())
            .ok_or_else(|| self.corrupt("the size of a member is absurd"))
    }

    fn corrupt(&self, what: &str) -> BundleError {
        self.here(BundleError::new(Fault::CorruptTar, what))
    }

    fn here(&self, error: BundleError) -> BundleError {
        if self.at == 0 {
            return error.at("tar header at byte 0");
        }
        error.at(format!("tar header at byte {}, at or after the member {:?}", self.at, self.last))
    }
}

#[cfg(test)]
mod tests;
