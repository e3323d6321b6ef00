//! Definitions on tables larger than memory: whole, or without a trace, also when the process is killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use deltamesh_change::Value;
use deltamesh_genji::{Database, ErrorKind, HostOptions};
use deltamesh_testkit::GenjiHost;

use super::{count, run};

/// Name the directory and the statement of [`definer_process`], and that it has little memory.
const DIRECTORY: &str = "DELTAMESH_TEST_DEFINER";
const STATEMENT: &str = "DELTAMESH_TEST_STATEMENT";
const TIGHT: &str = "DELTAMESH_TEST_TIGHT";

const ROWS: i64 = 3000;
const INDEX: &str = "CREATE INDEX t_w ON t (w)";
const FIELD: &str = "ALTER TABLE t ADD FIELD x INTEGER DEFAULT 7";
const DROP: &str = "DROP TABLE t";

/// Options under which a definition writes the rows of `prepared` in dozens of parts.
fn tight() -> HostOptions {
    HostOptions {
        spill_bytes: 20_000,
        memtable_bytes: 60_000,
        retained_log_bytes: 0,
        ..HostOptions::default()
    }
}

fn prepared(dir: &Path) -> Result<Database> {
    let database = Database::open(dir, &tight())?;
    run(
        &database,
        &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w INTEGER)", "CREATE INDEX t_v ON t (v)"],
    );
    let mut transaction = database.begin();
    for id in 0..ROWS {
        let row = [("id", Value::Int(id)), ("v", format!("v{}", id / 2).into()), ("w", Value::Int(id % 10))];
        transaction.insert("t", &row.map(|(name, value)| (name.to_owned(), value)))?;
    }
    transaction.commit()?;
    Ok(database)
}

/// The catalog and all rows.
fn content(database: &Database) -> Result<String> {
    let mut content =
        format!("{:?}", database.execute("SELECT name, sql FROM __genji_catalog", &[])?.documents);
    for table in database.tables() {
        content += &format!("{:?}", database.scan(&table.name)?);
    }
    Ok(content)
}

/// What the real engine finds: rows by key, by the old index and by the new one; none of it if the table is gone.
fn check_theirs(dir: &Path, has_table: bool) -> Result<()> {
    let Some(mut host) = GenjiHost::start(dir)? else { return Ok(()) };
    if has_table {
        assert_eq!(host.query("SELECT id FROM t WHERE w = 3")?.len(), ROWS as usize / 10);
        assert_eq!(host.query("SELECT id FROM t WHERE v = 'v700'")?.len(), 2);
        assert_eq!(host.query("SELECT id FROM t")?.len(), ROWS as usize);
        host.execute(&format!("INSERT INTO t (id, v, w) VALUES ({ROWS}, 'v700', 3)"))?;
        assert_eq!(host.query("SELECT id FROM t WHERE w = 3")?.len(), ROWS as usize / 10 + 1);
    } else {
        assert!(host.execute("SELECT * FROM t").is_err());
        host.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")?;
        assert!(host.query("SELECT id FROM t")?.is_empty());
    }
    host.close()
}

#[test]
fn definitions_of_large_tables() -> Result<()> {
    for statement in [INDEX, FIELD, DROP] {
        let dir = tempfile::tempdir()?;
        let database = prepared(dir.path())?;
        run(&database, &[statement]);
        let expected = content(&database)?;
        drop(database);
        let reopened = Database::open(dir.path(), &tight())?;
        assert_eq!(content(&reopened)?, expected, "{statement}");
        drop(reopened);
        check_theirs(dir.path(), statement != DROP)?;
    }
    Ok(())
}

/// A definition that fails after parts of it are in the log takes the whole transaction with it; a small one does not.
#[test]
fn a_definition_that_fails_leaves_no_trace() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = prepared(dir.path())?;
    let before = content(&database)?;
    for statement in ["CREATE UNIQUE INDEX t_u ON t (v)", "ALTER TABLE t ADD FIELD x INTEGER NOT NULL"] {
        let failure = database.execute(statement, &[]).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::Constraint, "{statement}");
        assert_eq!(content(&database)?, before, "{statement}");
    }
    let mut transaction = database.begin();
    transaction.execute("INSERT INTO t (id, v) VALUES (-1, 'new')", &[])?;
    transaction.execute("CREATE UNIQUE INDEX t_u ON t (v)", &[]).unwrap_err();
    assert_eq!(transaction.execute("DELETE FROM t WHERE id = 1", &[]).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(transaction.commit().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(content(&database)?, before);

    run(
        &database,
        &["CREATE TABLE s (id INTEGER PRIMARY KEY, v INTEGER)", "INSERT INTO s VALUES {id: 1, v: 1}"],
    );
    let mut transaction = database.begin();
    transaction.execute("INSERT INTO s VALUES {id: 2, v: 1}", &[])?;
    transaction.execute("CREATE UNIQUE INDEX s_v ON s (v)", &[]).unwrap_err();
    transaction.execute("INSERT INTO s VALUES {id: 3, v: 1}", &[])?;
    transaction.commit()?;
    assert_eq!(database.scan("s")?.len(), 3);
    drop(database);
    check_theirs(dir.path(), true)
}

/// Not a test of its own: runs one statement in a process that can be killed, and says what memory it took.
#[test]
fn definer_process() {
    let (Some(dir), Ok(statement)) = (std::env::var_os(DIRECTORY), std::env::var(STATEMENT)) else { return };
    let options = if std::env::var_os(TIGHT).is_some() { tight() } else { HostOptions::default() };
    let database = Database::open(Path::new(&dir), &options).unwrap();
    let started = Instant::now();
    run(&database, &[&statement]);
    println!("\ntook {} ms, {}", started.elapsed().as_millis(), peak());
}

/// The most memory that this process ever held, as the kernel says it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned()
}

fn definer(dir: &Path, statement: &str, tight: bool) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "storage::definition::definer_process", "--nocapture"]);
    command.env(DIRECTORY, dir).env(STATEMENT, statement).stdout(Stdio::piped());
    if tight {
        command.env(TIGHT, "1");
    }
    Ok(command.spawn()?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Killed at any moment, the next open finds the state before it or the state after it.
#[test]
fn killed_in_a_definition() -> Result<()> {
    let original = tempfile::tempdir()?;
    prepared(original.path())?.close()?;
    for statement in [INDEX, FIELD, DROP] {
        let whole = tempfile::tempdir()?;
        copy(original.path(), whole.path())?;
        let started = Instant::now();
        definer(whole.path(), statement, true)?.wait()?;
        let length = started.elapsed();
        let after = content(&Database::open(whole.path(), &tight())?)?;
        let before = content(&Database::open(original.path(), &tight())?)?;
        for step in 1..6 {
            let dir = tempfile::tempdir()?;
            copy(original.path(), dir.path())?;
            let mut child = definer(dir.path(), statement, true)?;
            std::thread::sleep(length * step / 6);
            child.kill()?;
            child.wait()?;
            let database = Database::open(dir.path(), &tight())?;
            let found = content(&database)?;
            let is_after = found == after;
            assert!(is_after || found == before, "{statement}, killed at {step} of 6");
            drop(database);
            check_theirs(dir.path(), statement != DROP || !is_after)?;
        }
    }
    Ok(())
}

/// Some 300 MB in a table of the real engine. Takes a minute or two; run with `--release`.
#[test]
#[ignore = "long; run with --ignored"]
fn definitions_of_a_table_of_300_mb() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(mut host) = GenjiHost::start_with(dir.path(), &["-sync=false"])? else { return Ok(()) };
    host.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, pad TEXT)")?;
    for start in 0..30 {
        host.execute(&format!(".fill t {} 100000 100 1000", start * 100_000))?;
    }
    host.close()?;
    let statements = [
        "CREATE UNIQUE INDEX t_pad ON t (pad)",
        "ALTER TABLE t ADD FIELD x INTEGER DEFAULT 7",
        "DROP INDEX t_pad",
        DROP,
    ];
    for statement in statements {
        let output = definer(dir.path(), statement, false)?.wait_with_output()?;
        let output = String::from_utf8(output.stdout)?;
        let line = output.lines().find(|line| line.starts_with("took")).context(statement)?;
        println!("{statement}: {line}, {} tables", count(dir.path(), "sst"));
        if statement == statements[1] {
            let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
            let found = host.query("SELECT id, x, pad FROM t WHERE id = 1234567")?;
            assert!(found[0].contains("\"x\": 7"), "{found:?}");
            let pad = found[0].split('"').nth(7).context("no pad")?.to_owned();
            assert_eq!(host.query(&format!("SELECT id FROM t WHERE pad = '{pad}'"))?, ["{\"id\": 1234567}"]);
            assert_eq!(host.query("SELECT COUNT(*) FROM t")?, ["{\"COUNT(*)\": 3000000}"]);
            host.close()?;
        }
    }
    let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
    host.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")?;
    assert!(host.query("SELECT id FROM t")?.is_empty());
    host.close()
}
