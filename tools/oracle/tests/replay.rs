//! What the fuzz targets run, without a fuzzer: pseudo-random bytes, and the corpora.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

/// Always the same bytes (the multiplier is one of L'Ecuyer's for linear congruential generators).
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn random_calls() {
    for seed in 0..400 {
        let bytes = bytes(seed, 600);
        let played = std::panic::catch_unwind(|| oracle::calls(&bytes));
        assert!(played.is_ok(), "seed {seed}");
    }
}

fn replay(target: &str, play: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(std::panic::catch_unwind(|| play(&bytes)).is_ok(), "{}", path.display());
        files += 1;
    }
    assert!(files > 10, "{target} has {files} files");
}

#[test]
fn the_corpus_of_calls() {
    replay("calls", oracle::calls);
}

#[test]
fn the_corpus_of_configure_json() {
    replay("configure_json", oracle::configure_json);
}

#[test]
fn the_corpus_of_parse_headers() {
    replay("parse_headers", oracle::parse_headers);
}
