//! A database of gigabytes, read at one exact position while the real engine writes at full speed, flushes and compacts.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use deltamesh_change::Value;
use deltamesh_genji::{ReadOptions, Snapshot};
use deltamesh_testkit::GenjiHost;

/// Names the directory that [`reader_process`] reads.
const READ: &str = "DELTAMESH_TEST_READ";
/// How many million rows of 1,000 bytes the database is to have.
const MILLIONS: &str = "DELTAMESH_TEST_MILLIONS";
/// Rows in a transaction of the load.
const PORTION: u64 = 10;

/// A table's rows as one number, in the order of their keys.
#[derive(Default)]
struct Content {
    rows: u64,
    hash: DefaultHasher,
}

impl Content {
    fn add(&mut self, id: i64, pad: &str) {
        self.rows += 1;
        self.hash.write_i64(id);
        self.hash.write(pad.as_bytes());
    }

    fn line(&self, table: &str) -> String {
        format!("{table} {} {:016x}", self.rows, self.hash.finish())
    }
}

/// Not a test of its own: reads a snapshot in a process of its own, whose memory is told.
#[test]
fn reader_process() {
    let Some(dir) = std::env::var_os(READ) else { return };
    let started = Instant::now();
    let snapshot = Snapshot::open(Path::new(&dir), &ReadOptions::default()).unwrap();
    println!("\nposition {}", snapshot.position().sequence);
    let mut rows = 0;
    for table in ["t", "w"] {
        let mut content = Content::default();
        for row in snapshot.rows(table).unwrap() {
            match row.unwrap().as_slice() {
                [Value::Int(id), Value::Text(pad)] => content.add(*id, pad),
                other => panic!("{other:?}"),
            }
        }
        rows += content.rows;
        println!("{}", content.line(table));
    }
    assert!(snapshot.faults().is_empty());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    let seconds = started.elapsed().as_secs_f64();
    println!("in all {rows} rows in {seconds:.0} s, {:.0}/s, {peak}", rows as f64 / seconds);
}

fn reader(dir: &Path) -> Result<Child> {
    let arguments = ["--exact", "large::reader_process", "--nocapture"];
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.args(arguments).env(READ, dir).stdout(Stdio::piped()).spawn()?)
}

/// What the engine says of the rows below `end`.
fn engine_content(host: &mut GenjiHost, table: &str, end: u64) -> Result<Content> {
    let mut content = Content::default();
    for start in (0..end).step_by(5000) {
        let end = (start + 5000).min(end);
        let select = format!("SELECT id, pad FROM {table} WHERE id BETWEEN {start} AND {}", end - 1);
        for row in host.query(&select)? {
            let row: serde_json::Value = serde_json::from_str(&row)?;
            content.add(row["id"].as_i64().context("no id")?, row["pad"].as_str().context("no pad")?);
        }
    }
    Ok(content)
}

/// Adds rows to `w` while the reader runs; returns how many. It changes none of `t`: the engine fails now and then when it
/// updates a large table.
fn load(host: &mut GenjiHost, reader: &mut Child) -> Result<u64> {
    let mut rows = 0;
    while reader.try_wait()?.is_none() {
        host.execute(&format!(".fill w {rows} 1000 1000 {PORTION}"))?;
        rows += 1000;
    }
    Ok(rows)
}

/// Takes minutes, and twice the disk space of the rows; run with `--release`.
#[test]
#[ignore = "long; run with --ignored"]
fn a_snapshot_of_gigabytes() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let dir = temporary.path();
    let rows = std::env::var(MILLIONS).ok().and_then(|text| text.parse().ok()).unwrap_or(1) * 1_000_000u64;
    // Not opened again: the real engine can crash then.
    let Some(mut host) = GenjiHost::start_with(dir, &["-sync=false"])? else { return Ok(()) };
    host.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, pad TEXT)")?;
    host.execute("CREATE TABLE w (id INTEGER PRIMARY KEY, pad TEXT)")?;
    for start in (0..rows).step_by(100_000) {
        host.execute(&format!(".fill t {start} 100000 1000 500"))?;
    }
    // What the engine has not flushed of the log it has not written either.
    host.execute(".walsync")?;
    let begin = Snapshot::open(dir, &ReadOptions::default())?.position().sequence;

    let mut child = reader(dir)?;
    let started = Instant::now();
    let written = load(&mut host, &mut child)?;
    let seconds = started.elapsed().as_secs_f64();
    println!("engine meanwhile: {written} rows, {:.0}/s", written as f64 / seconds);
    let output = String::from_utf8(child.wait_with_output()?.stdout)?;
    let line = |begin: &str| output.lines().find(|line| line.starts_with(begin)).context("reader failed");
    let (position, t, w) = (line("position ")?, line("t ")?, line("w ")?);
    println!("{}", line("in all ")?);

    let position: u64 = position.trim_start_matches("position ").parse()?;
    // A row is one operation.
    let of_w = position - begin;
    ensure!(of_w.is_multiple_of(PORTION), "position is inside of a transaction");
    ensure!(t == engine_content(&mut host, "t", rows)?.line("t"), "t differs");
    ensure!(w == engine_content(&mut host, "w", of_w)?.line("w"), "w differs");
    println!("rows at {position} equal the engine's: {t}, {w}");
    host.close()
}
