//! Faults of the disk: what was acknowledged is there, and nothing more is taken.

use std::path::Path;
use std::process::Command;

use deltamesh_change::Value;
use deltamesh_genji::{Database, HostOptions};

use super::{lengths, run};

/// Names the directory that [`limited_process`] writes to.
const LIMITED: &str = "DELTAMESH_TEST_LIMITED";

/// Not a test of its own: writes until it is refused, and says how often it was not.
#[test]
fn limited_process() {
    let Some(dir) = std::env::var_os(LIMITED) else { return };
    let options = HostOptions { memtable_bytes: 16_000, ..HostOptions::default() };
    let database = Database::open(Path::new(&dir), &options).unwrap();
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    for id in 0.. {
        // Text that does not compress.
        let text: String = (0..2000u64)
            .map(|at| {
                char::from(
                    b'a' + (((id as u64 * 2000 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 40) as u8 % 26,
                )
            })
            .collect();
        let mut transaction = database.begin();
        let row = [("id".to_owned(), Value::Int(id)), ("v".to_owned(), text.into())];
        let written = transaction.insert("t", &row).and_then(|_| transaction.commit());
        if let Err(error) = written {
            println!("\nacknowledged {id} then {:?}", error.kind());
            return;
        }
    }
}

/// No file may grow beyond 100 KiB: logs and tables of level 0 fit, what compaction writes does not.
#[test]
fn a_merge_that_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "storage::fault::limited_process", "--nocapture"])
        .env(LIMITED, dir.path())
        .output()
        .unwrap();
    let output = String::from_utf8(writer.stdout).unwrap();
    let line = output.lines().find(|line| line.starts_with("acknowledged")).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[2..], ["then", "Closed"], "{output}");
    let acknowledged: usize = words[1].parse().unwrap();
    assert!(acknowledged > 50, "{acknowledged}");

    // With room again, it opens, has all of it, and goes on.
    let database = Database::open(dir.path(), &HostOptions::default()).unwrap();
    assert_eq!(lengths(&database).len(), acknowledged);
    run(&database, &["INSERT INTO t (id, v) VALUES (-1, '')"]);
}
