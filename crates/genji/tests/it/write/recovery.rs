//! What is left after a power cut, a kill, or damage.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deltamesh_change::Value;
use deltamesh_genji::{Database, ErrorKind, HostOptions};
use deltamesh_testkit::GenjiHost;

use super::{open, ours, run, small};

pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The logs of a directory in order.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}

/// A power cut anywhere in the last log leaves the transactions before it, whole.
#[test]
fn a_cut_log_holds_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    let mut ends = vec![database.position().unwrap().offset];
    for id in 0..40 {
        let pad = "x".repeat(if id % 10 == 9 { 40_000 } else { 7 * id });
        let sql = format!("INSERT INTO t (id, v) VALUES ({id}, '{pad}'), ({}, '')", 1000 + id);
        let position = database.execute(&sql, &[]).unwrap().position.unwrap();
        ends.push(position.offset);
    }
    drop(database);
    let size = fs::metadata(logs(dir.path()).pop().unwrap()).unwrap().len();
    for cut in (ends[0]..=size).step_by(4999).chain(ends.iter().copied()) {
        let cut_dir = tempfile::tempdir().unwrap();
        copy(dir.path(), cut_dir.path());
        let log = fs::OpenOptions::new().write(true).open(logs(cut_dir.path()).pop().unwrap()).unwrap();
        log.set_len(cut).unwrap();
        let database = open(cut_dir.path());
        let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
        let rows = ours(&database, "t");
        assert_eq!(rows.len(), 2 * whole, "cut at {cut}");
        run(&database, &["INSERT INTO t (id) VALUES (-1)"]);
        drop(database);
        assert_eq!(ours(&open(cut_dir.path()), "t").len(), 2 * whole + 1);
    }
}

/// A damaged byte before acknowledged transactions is never skipped.
#[test]
fn damage_in_the_middle_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
    let place = database.position().unwrap().offset;
    run(&database, &["INSERT INTO t (id) VALUES (1)", "INSERT INTO t (id) VALUES (2)"]);
    drop(database);
    let log = logs(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    bytes[place as usize + 20] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let error = Database::open(dir.path(), &HostOptions::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!((error.file(), error.offset()), (Some(log.as_path()), Some(place)));

    // Mended, it opens.
    bytes[place as usize + 20] ^= 1;
    fs::write(&log, &bytes).unwrap();
    assert_eq!(ours(&open(dir.path()), "t").len(), 2);
}

/// Reads stay right over many tables of level 0, and nothing is lost between flushes.
#[test]
fn many_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for round in 0..3 {
        let database = Database::open(dir.path(), &small()).unwrap();
        if round == 0 {
            run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE, v TEXT)"]);
        }
        for id in 0..100 {
            let id = round * 70 + id;
            let sql = format!("INSERT INTO t (id, code, v) VALUES ({id}, 'c{id}', '{}')", "v".repeat(100));
            match database.execute(&sql, &[]) {
                Ok(_) => expected += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Constraint, "{error}"),
            }
            if id % 7 == 0 {
                let deleted = database.execute(&format!("DELETE FROM t WHERE id = {}", id / 2), &[]).unwrap();
                expected -= deleted.rows as usize;
            }
        }
        assert_eq!(ours(&database, "t").len(), expected);
        if round == 1 {
            database.close().unwrap();
        }
    }
}

/// After a failed write nothing more is taken, and what was acknowledged is there when it is opened again.
#[test]
fn a_full_disk_stops_writes_until_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), &small()).unwrap();
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    // A directory that cannot take new files: the next flush fails.
    let mut acknowledged = 0;
    let hidden = dir.path().with_extension("hidden");
    fs::rename(dir.path(), &hidden).unwrap();
    let refused = (0..1000).find_map(|id| {
        let sql = format!("INSERT INTO t (id, v) VALUES ({id}, '{}')", "v".repeat(100));
        database.execute(&sql, &[]).map(|_| acknowledged += 1).err()
    });
    assert_eq!(refused.unwrap().kind(), ErrorKind::Closed);
    assert!(acknowledged > 10);
    drop(database);
    fs::rename(&hidden, dir.path()).unwrap();
    assert_eq!(ours(&open(dir.path()), "t").len(), acknowledged);
}

/// Set for a [`writer_process`] that meets a limit.
const LIMITED: &str = "DELTAMESH_TEST_WRITER_LIMITED";
/// Names the directory that [`writer_process`] writes to.
const WRITER: &str = "DELTAMESH_TEST_WRITER";

/// Not a test of its own: the process that [`a_killed_writer_keeps_its_word`] starts and kills.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(WRITER) else { return };
    let limited = std::env::var_os(LIMITED).is_some();
    let options = if limited { HostOptions::default() } else { small() };
    let database = Database::open(Path::new(&dir), &options).unwrap();
    run(&database, &["CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT UNIQUE)"]);
    let first = ours(&database, "t").len();
    for id in first.. {
        let sql = format!("INSERT INTO t (id, v) VALUES ({id}, '{id}{}')", "v".repeat(100));
        match database.execute(&sql, &[]) {
            Ok(_) => println!("ack {id}"),
            Err(error) if limited => {
                let again = database.execute(&sql, &[]).unwrap_err();
                println!("refused {:?} then {:?}", error.kind(), again.kind());
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Killed at any moment, also while it moves changes into tables: all that was acknowledged is there, once and in order.
#[test]
fn a_killed_writer_keeps_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write::recovery::writer_process", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        for (count, line) in lines.map_while(Result::ok).filter(|line| line.contains("ack ")).enumerate() {
            acknowledged = line.rsplit(' ').next().unwrap().parse::<usize>().unwrap() + 1;
            if count == 10 + 17 * round {
                writer.kill().unwrap();
            }
        }
        writer.wait().unwrap();
        let rows = open(dir.path()).scan("t").unwrap();
        let ids: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
        assert!((acknowledged..=acknowledged + 1).contains(&ids.len()), "{acknowledged} of {}", ids.len());
        let expected: Vec<_> = (0..ids.len() as i64).map(|id| vec![Value::Int(id)]).collect();
        assert_eq!(ids, expected);
    }
}

/// A log that cannot grow, in the middle of a record, as on a full disk.
#[test]
fn a_log_that_cannot_grow() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "write::recovery::writer_process", "--nocapture"])
        .env(WRITER, dir.path())
        .env(LIMITED, "1")
        .output()
        .unwrap();
    let output = String::from_utf8(writer.stdout).unwrap();
    assert!(output.contains("refused Io then Closed"), "{output}");
    let acknowledged = output.lines().filter(|line| line.contains("ack ")).count();
    assert!(acknowledged > 100);
    assert_eq!(ours(&open(dir.path()), "t").len(), acknowledged);
}

/// More in one transaction than the real engine ever puts into one record.
#[test]
fn a_large_transaction() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let database = open(dir.path());
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    let mut transaction = database.begin();
    for id in 0..16 {
        let pad = char::from(b'a' + id as u8).to_string().repeat(1 << 20);
        transaction.insert("t", &[("id".to_owned(), Value::Int(id)), ("v".to_owned(), pad.into())])?;
    }
    transaction.commit()?;
    drop(database);
    let copied = tempfile::tempdir()?;
    copy(dir.path(), copied.path());
    assert_eq!(open(dir.path()).scan("t")?.len(), 16);
    for dir in [&dir, &copied] {
        let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
        assert_eq!(host.query("SELECT id FROM t")?.len(), 16);
        host.close()?;
    }
    Ok(())
}
