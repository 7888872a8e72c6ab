use super::*;
use crate::archive::build::{header, member, padded, pax, sealed};
use proptest::prelude::*;

fn walk(bytes: Vec<u8>) -> Result<(Vec<Member>, TarEnd), BundleError> {
    let (space, limits) = (Bytes::from(bytes), Limits { entries: 1000, ..Limits::default() });
    let allowance = Allowance::new(&limits);
    let mut walker = Walker::new(&space, &limits, &allowance);
    let mut members = Vec::new();
    while let Some(member) = walker.next()? {
        members.push(member);
    }
    Ok((members, walker.ending().unwrap()))
}

fn names(bytes: Vec<u8>) -> Vec<(String, u64, u64)> {
    let (members, _) = walk(bytes).unwrap();
    members.into_iter().map(|member| (member.name, member.offset, member.len)).collect()
}

fn fault(bytes: Vec<u8>) -> Fault {
    walk(bytes).unwrap_err().fault()
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

#[test]
fn members_and_where_they_lie() {
    let bytes = [member("a", &[1; 700]), header("d/", 0, b'5', ""), member("d/b", b"x"), end()].concat();
    assert_eq!(names(bytes), [("a".into(), 512, 700), ("d/".into(), 2048, 0), ("d/b".into(), 2560, 1)]);
}

#[test]
fn extensions_bind_to_the_next_file_and_pax_wins() {
    let long = "n".repeat(300);
    let bytes = [
        pax(&[("comment", "two\nlines"), ("path", "from-pax"), ("size", "3")]),
        header("././@LongLink", long.len() as u64, b'L', ""),
        padded(long.as_bytes()),
        header("short", 0, b'0', ""),
        padded(b"abc"),
        header("././@LongLink", long.len() as u64, b'L', ""),
        padded(long.as_bytes()),
        member("short", b"d"),
        end(),
    ];
    let found = names(bytes.concat());
    assert_eq!(found[0].0, "from-pax");
    assert_eq!(found[0].2, 3);
    assert_eq!(found[1].0, long);
    assert_eq!(found.len(), 2);
}

#[test]
fn links_have_no_bytes_whatever_they_state() {
    let bytes = [header("l", 5, b'2', "../x"), header("h", 5, b'1', "x"), member("x", b"y"), end()].concat();
    let (members, _) = walk(bytes).unwrap();
    assert_eq!(members[0].kind, MemberKind::Symlink("../x".into()));
    assert_eq!(members[1].kind, MemberKind::Hardlink("x".into()));
    assert_eq!(members[2].name, "x");
}

#[test]
fn old_headers_and_signed_sums() {
    let mut old: [u8; 512] = header("caf\u{e9}", 1, 0, "").try_into().unwrap();
    old[257..265].fill(0);
    let sum: i64 =
        (0..512).map(|i| if (148..156).contains(&i) { 32 } else { i64::from(old[i].cast_signed()) }).sum();
    old[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(names([old.to_vec(), padded(b"x"), end()].concat()), [("caf\u{e9}".into(), 512, 1)]);
}

#[test]
fn each_damage_has_its_class() {
    let sized = |field: &[u8]| {
        let mut raw: [u8; 512] = header("a", 0, b'0', "").try_into().unwrap();
        raw[124..124 + field.len()].copy_from_slice(field);
        [sealed(&raw), end()].concat()
    };
    let mut flipped = [member("a", b"x"), end()].concat();
    flipped[3] ^= 1;
    let whole = [member("a", &[1; 700]), member("b", &[2; 700])].concat();
    let huge = u64::MAX.to_string();
    for (bytes, expected) in [
        (flipped, Fault::CorruptTar),
        (sized(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\x00"), Fault::CorruptTar),
        (sized(b"\x80\x01\0\0\0\0\0\0\0\0\0\0"), Fault::CorruptTar),
        (sized(b"9999"), Fault::CorruptTar),
        ([pax(&[("size", "-1")]), member("a", b"x"), end()].concat(), Fault::CorruptTar),
        ([pax(&[("size", "9")]), member("a", b"x"), end()].concat(), Fault::CorruptTar),
        ([pax(&[("size", &huge)]), header("a", 0, b'0', ""), end()].concat(), Fault::CorruptTar),
        ([pax(&[("size", "99999")]), header("a", 0, b'0', ""), end()].concat(), Fault::Truncated),
        ([header("x", 9, b'x', ""), padded(b"nonsense\n"), end()].concat(), Fault::CorruptTar),
        ([pax(&[("path", "a")]), end()].concat(), Fault::CorruptTar),
        (header("x", 2 << 20, b'x', ""), Fault::LimitExceeded),
        (header("x", 2 << 30, b'L', ""), Fault::LimitExceeded),
        (whole[..700].to_vec(), Fault::Truncated),
        (whole[..1536 + 100].to_vec(), Fault::Truncated),
        (whole[..whole.len() - 1].to_vec(), Fault::Truncated),
        (member("a", b"").repeat(1001), Fault::LimitExceeded),
        ([member("a", b"x"), vec![0; 512], member("b", b"y"), end()].concat(), Fault::CorruptTar),
        ([vec![0; 512], member("b", b"y"), end()].concat(), Fault::CorruptTar),
    ] {
        assert_eq!(fault(bytes), expected);
    }
}

#[test]
fn how_a_tar_ends() {
    let one = member("a", b"x");
    let junk = b"junk".repeat(400);
    for (bytes, ending) in [
        ([one.clone(), end()].concat(), TarEnd::Marked),
        ([one.clone(), end(), vec![0; 9000], junk].concat(), TarEnd::Marked),
        (one.clone(), TarEnd::Unmarked),
        ([one.clone(), vec![0; 512]].concat(), TarEnd::Unmarked),
        ([one.clone(), end(), vec![0; 2048], one.clone()].concat(), TarEnd::AnotherTar(4096)),
    ] {
        assert_eq!(walk(bytes).unwrap().1, ending);
    }
}

#[test]
fn sparse_members_are_stepped_over_and_told_apart() {
    let mut raw: [u8; 512] = header("s", 4, b'S', "").try_into().unwrap();
    raw[482] = 1;
    let bytes = [sealed(&raw), vec![0; 512], padded(b"data"), member("b", b"x"), end()].concat();
    let (members, _) = walk(bytes).unwrap();
    assert_eq!(members[0].kind, MemberKind::Odd(SPARSE));
    assert_eq!((members[1].name.as_str(), members[1].offset), ("b", 2048));
}

#[test]
fn members_of_an_unknown_type_are_files_as_posix_has_it() {
    for flag in [b'Z', b'A', 0xff] {
        let bytes = [header("x.tar", 3, flag, ""), padded(b"abc"), member("b", b"x"), end()].concat();
        let (members, _) = walk(bytes).unwrap();
        assert_eq!((&members[0].kind, members[0].len), (&MemberKind::File, 3));
        assert_eq!(members[1].name, "b");
    }
    let dump = [header("d/", 4, b'D', ""), padded(b"Yb\0\0"), member("d/b", b"x"), end()].concat();
    let (members, _) = walk(dump).unwrap();
    assert_eq!(members[0].kind, MemberKind::Directory);
    assert_eq!(members[1].name, "d/b");
}

fn some_tar() -> Vec<u8> {
    let long = padded("n".repeat(200).as_bytes());
    [
        pax(&[("path", "p"), ("size", "1")]),
        header("p", 0, b'0', ""),
        padded(b"1"),
        header("././@LongLink", 200, b'L', ""),
        long,
        member("m", b"x"),
        header("l", 0, b'2', "m"),
        end(),
    ]
    .concat()
}

proptest! {
    #[test]
    fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = walk(bytes);
    }

    // The checksum of the mutated header is made right again, so that more than the checksum is tested.
    #[test]
    fn mutated_headers_end(at in 0..512usize, block in 0..8usize, value: u8, cut in 0..5120usize) {
        let mut bytes = some_tar();
        bytes[block * 512 + at] = value;
        let fixed = sealed(bytes[block * 512..][..512].try_into().unwrap());
        bytes[block * 512..][..512].copy_from_slice(&fixed);
        if let Ok((members, _)) = walk(bytes.clone()) {
            for member in members {
                prop_assert!(member.offset + member.len <= bytes.len() as u64);
            }
        }
        bytes.truncate(cut);
        let _ = walk(bytes);
    }

    #[test]
    fn numbers_and_records_never_panic(field in proptest::collection::vec(any::<u8>(), 0..24)) {
        let _ = (number(&field), pax_records(&field), decimal(&field));
    }
}
