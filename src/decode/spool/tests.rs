use std::io::Read;
use std::time::Instant;

use xz2::stream::Check;

use crate::decode::testing::{content, decoder, drain, gzip, space, with_spool_limit, xz, zstd};
use crate::decode::{DecodeOptions, StructureKind};
use crate::error::Fault;
use crate::source::{Certainty, Intent};

const MIB: usize = 1 << 20;

#[test]
fn zeros_cost_no_disk() {
    let mut data = vec![0; 24 * MIB];
    data[10 * MIB] = 1;
    let decoder = decoder(1, with_spool_limit(128 << 10));
    let volume = decoder.open(space(&zstd(&data, false))).unwrap();
    assert_eq!(volume.structure.kind, StructureKind::Spool);
    assert!(drain(&volume).unwrap() == data);
    assert_eq!(decoder.meter().spool_high_water_bytes(), 64 << 10);
    assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64);
}

#[test]
fn the_limit_is_on_what_all_files_hold() {
    let decoder = decoder(1, with_spool_limit(MIB as u64));
    let data = content(700_000, 1);
    let first = decoder.open(space(&gzip(&data))).unwrap();
    assert!(drain(&first).unwrap() == data);
    let second = decoder.open(space(&gzip(&data))).unwrap();
    let error = drain(&second).unwrap_err();
    assert_eq!(error.fault(), Fault::NoSpace);
    assert!(error.hint_text().unwrap().contains("--spool-limit"));
    // What was decoded before can still be read, and room that is given back can be used.
    assert_eq!(second.space.chunk_at(100, 10).unwrap()[..], data[100..110]);
    drop((first, second));
    assert_eq!(decoder.meter().spooled_bytes(), 0);
    assert!(drain(&decoder.open(space(&gzip(&data))).unwrap()).unwrap() == data);
}

#[test]
fn what_is_released_is_punched_out_and_decoded_once_more_where_it_is_read_again() {
    let decoder = decoder(1, DecodeOptions::default());
    let data = content(2 * MIB, 2);
    let volume = decoder.open(space(&xz(&data, 2 * MIB, Check::Crc64))).unwrap();
    assert_eq!(volume.space.len().unwrap(), data.len() as u64);
    let before = decoder.meter().spooled_bytes();
    // Two halves of a block in two calls are a whole block.
    volume.space.release(0..100_000);
    volume.space.release(100_000..MIB as u64);
    assert_eq!(decoder.meter().spooled_bytes(), before - MIB as u64);
    assert_eq!(volume.space.chunk_at(MIB as u64, 20).unwrap()[..], data[MIB..MIB + 20]);
    assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64);
    assert_eq!(volume.space.chunk_at(99_999, 10).unwrap()[..], data[99_999..100_009]);
    assert!(drain(&volume).unwrap() == data);
    assert!(decoder.meter().decoded_bytes() > data.len() as u64);
}

#[test]
fn what_is_released_is_given_back_once_in_whole_blocks_also_while_it_is_written() {
    const BLOCK: u64 = super::BLOCK_BYTES as u64;
    let mut state = super::SpoolState { watermark: 10 * BLOCK, ..super::SpoolState::default() };
    let mut release = |range: std::ops::Range<u64>| state.release(std::iter::once(range).collect()).remove(0);
    assert_eq!(release(0..BLOCK), 0..BLOCK);
    assert_eq!(release(BLOCK..2 * BLOCK), BLOCK..2 * BLOCK);
    assert_eq!(release(2 * BLOCK..2 * BLOCK + 100), 2 * BLOCK..2 * BLOCK + 100);
    assert_eq!(release(2 * BLOCK + 100..3 * BLOCK), 2 * BLOCK..3 * BLOCK);
    // Block 10 is being written, and block 11.
    assert_eq!(release(9 * BLOCK..11 * BLOCK), 9 * BLOCK..10 * BLOCK);
    let written = vec![10 * BLOCK..11 * BLOCK, 11 * BLOCK..12 * BLOCK];
    let gone = state.reach(12 * BLOCK, written);
    assert!(gone.len() == 1 && gone[0] == (10 * BLOCK..11 * BLOCK), "{gone:?}");
}

#[test]
fn of_a_pipe_what_is_released_is_gone_and_that_is_said() {
    let decoder = decoder(1, DecodeOptions::default());
    let volume = decoder.open_reader(std::io::Cursor::new(gzip(&content(MIB, 7)))).unwrap();
    assert_eq!(volume.space.len().unwrap(), MIB as u64);
    volume.space.release(0..MIB as u64);
    let error = volume.space.chunk_at(9, 1).unwrap_err();
    assert_eq!(error.fault(), Fault::Io);
    assert!(error.hint_text().unwrap().contains("as a file"), "{error}");
}

#[test]
fn what_nobody_needs_leaves_the_disk_once_all_have_said_what_they_will_read() {
    let decoder = decoder(1, DecodeOptions::default());
    let data = content(4 * MIB, 4);
    let volume = decoder.open(space(&gzip(&data))).unwrap();
    assert_eq!(volume.space.len().unwrap(), data.len() as u64);
    let mib = |count: usize| (count * MIB) as u64;
    let needs = |range: std::ops::Range<usize>| {
        Intent::to_read_range(&volume.space, mib(range.start)..mib(range.end), Certainty::Possible)
    };
    let (one, both) = (needs(1..3), needs(2..4));
    assert_eq!(decoder.meter().spooled_bytes(), mib(4));
    decoder.settle(true);
    assert_eq!(decoder.meter().spooled_bytes(), mib(4), "somebody may come later");
    decoder.settle(false);
    assert_eq!(decoder.meter().spooled_bytes(), mib(3), "nobody needs the first");
    drop(one);
    assert_eq!(decoder.meter().spooled_bytes(), mib(2));
    assert_eq!(volume.space.chunk_at(mib(2), 9).unwrap()[..], data[2 * MIB..2 * MIB + 9]);
    drop(both);
    assert_eq!(decoder.meter().spooled_bytes(), 0);
    assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64);
}

#[test]
fn the_length_waits_for_the_last_check() {
    let decoder = decoder(1, DecodeOptions::default());
    let data = content(300_000, 3);
    let mut stored = gzip(&data);
    let at = stored.len() - 6;
    stored[at] ^= 1; // in the checksum
    let volume = decoder.open(space(&stored)).unwrap();
    assert_eq!(volume.space.chunk_at(0, 10).unwrap()[..], data[..10]);
    assert_eq!(volume.space.len().unwrap_err().fault(), Fault::CorruptCompression);
}

#[test]
fn a_missing_spool_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = DecodeOptions { spool_dir: dir.path().join("gone"), ..DecodeOptions::default() };
    let error = decoder(1, options).open(space(&gzip(b"abc"))).unwrap_err();
    assert_eq!(error.fault(), Fault::Io);
    assert!(error.to_string().contains("gone") && error.hint_text().unwrap().contains("--spool-dir"));
}

#[test]
fn a_volume_that_is_dropped_stops_its_thread() {
    let decoder = decoder(1, DecodeOptions::default());
    let endless = std::io::repeat(7);
    let volume = decoder.open_reader(endless).unwrap();
    volume.space.chunk_at(MIB as u64, 1).unwrap();
    drop(volume);
    let decoded = decoder.meter().decoded_bytes();
    assert_eq!(decoder.meter().spooled_bytes(), 0, "the file is gone");
    assert_eq!(decoder.meter().decoded_bytes(), decoded, "nobody writes any more");
}

/// A pipe that says something and then nothing, for as long as the test runs.
struct Silent(Vec<u8>, std::sync::mpsc::Receiver<()>);

impl Read for Silent {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            let _ = self.1.recv();
            return Ok(0);
        }
        let len = buffer.len().min(self.0.len());
        buffer[..len].copy_from_slice(&self.0[..len]);
        self.0.drain(..len);
        Ok(len)
    }
}

#[test]
fn a_reader_of_a_silent_pipe_can_be_cancelled() {
    let decoder = decoder(1, DecodeOptions::default());
    let (hang_up, silence) = std::sync::mpsc::channel();
    let volume = decoder.open_reader(Silent(vec![7; 300_000], silence)).unwrap();
    assert_eq!(volume.space.chunk_at(0, 3).unwrap()[..], [7; 3]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| volume.space.chunk_at(290_000, 1));
        decoder.cancel();
        assert_eq!(waiting.join().unwrap().unwrap_err().fault(), Fault::Cancelled);
    });
    assert!(begun.elapsed().as_secs() < 2);
    drop(hang_up);
}
