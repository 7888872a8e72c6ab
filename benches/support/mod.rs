//! What all measurements begin with.

/// Bytes that compress about as little as binaries do: short random words, each followed by a run. Equal for equal seeds.
pub(crate) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(len + 32);
    while out.len() < len {
        // SplitMix64: https://prng.di.unimi.it/splitmix64.c
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = (word ^ (word >> 31)).to_le_bytes();
        out.extend_from_slice(&word[..6]);
        out.extend(std::iter::repeat_n(word[6], usize::from(word[7] % 24)));
    }
    out.truncate(len);
    out
}
