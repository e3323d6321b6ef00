//! Every target on mutated real inputs: some always, millions on request.
//!
//! `cargo test --release -p deltamesh-genji --lib -- --ignored --nocapture fuzz` runs ten million inputs of each target;
//! `DELTAMESH_FUZZ_TARGET`, `DELTAMESH_FUZZ_INPUTS` and `DELTAMESH_FUZZ_SEED` say which target, how many, and other ones.

use std::io::{self, Write as _};
use std::time::Instant;

use super::corpus::Corpus;
use super::mutate::{Numbers, mutate};
use super::*;

/// Inputs of a run that is asked for.
const MANY: u64 = 10_000_000;

fn run(name: &str, corpus: &[Vec<u8>], inputs: u64, seed: u64, target: impl Fn(&[u8])) {
    assert!(!corpus.is_empty(), "{name}");
    corpus.iter().for_each(|input| target(input));
    let (mut numbers, mut input) = (Numbers::new(seed), Vec::new());
    let started = Instant::now();
    for _ in 0..inputs {
        mutate(corpus, &mut numbers, &mut input);
        let attempt = std::panic::AssertUnwindSafe(|| target(&input));
        if std::panic::catch_unwind(attempt).is_err() {
            let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} fails for {digits}");
        }
    }
    let rate = inputs as f64 / started.elapsed().as_secs_f64();
    let length = corpus.len();
    writeln!(io::stderr().lock(), "{name}: {inputs} inputs from {length}, {rate:.0}/s").unwrap();
}

fn run_all(inputs: u64, seed: u64) {
    let corpus = Corpus::collect();
    let chosen = std::env::var("DELTAMESH_FUZZ_TARGET").ok();
    let run = |name: &str, corpus: &[Vec<u8>], target: &dyn Fn(&[u8])| {
        if chosen.as_deref().is_none_or(|chosen| chosen == name) {
            run(name, corpus, inputs, seed, target);
        }
    };
    run("wal", &corpus.logs, &wal);
    run("batch", &corpus.records, &batch);
    run("manifest", &corpus.manifests, &manifest);
    run("table", &corpus.tables, &table);
    run("document", &corpus.documents, &document);
    run("catalog", &corpus.catalog, &catalog);
    run("chai", &corpus.chai, &chai);
}

#[test]
fn some_inputs() {
    run_all(500, 1);
}

#[test]
#[ignore = "takes minutes"]
fn fuzz_many_inputs() {
    let number = |name: &str, default| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
    };
    run_all(number("DELTAMESH_FUZZ_INPUTS", MANY), number("DELTAMESH_FUZZ_SEED", 2));
}
