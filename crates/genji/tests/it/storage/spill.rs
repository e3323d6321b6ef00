//! Transactions larger than what is kept in memory: whole, or without a trace.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use deltamesh_change::{Item, SchemaChange, Value};
use deltamesh_genji::{Database, HostOptions, ReadOptions, Snapshot, WriteTransaction};
use deltamesh_testkit::GenjiHost;

use super::{lengths, put, run};

/// Options under which a few hundred rows are too many for memory.
fn tight() -> HostOptions {
    HostOptions { spill_bytes: 10_000, memtable_bytes: 30_000, ..HostOptions::default() }
}

fn prepared(dir: &Path) -> Database {
    let database = Database::open(dir, &tight()).unwrap();
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "CREATE INDEX t_v ON t (v)"]);
    put(&database, 0..300, "before");
    database
}

/// Changes, deletes and adds rows, many times what fits.
fn change(transaction: &mut WriteTransaction<'_>) -> Result<()> {
    let row = |id: i64, text: &str| [("id".to_owned(), Value::Int(id)), ("v".to_owned(), text.into())];
    for id in 0..600 {
        match id % 3 {
            0 => drop(transaction.delete("t", &row(id, ""))?),
            _ => drop(transaction.upsert("t", &row(id, "between"))?),
        }
    }
    for id in 200..400 {
        transaction.upsert("t", &row(id, "afterwards"))?;
    }
    assert_eq!(transaction.get("t", &[Value::Int(3)])?, None);
    assert!(transaction.get("t", &[Value::Int(300)])?.is_some());
    Ok(())
}

fn changed() -> Vec<(i64, usize)> {
    let mut rows: BTreeMap<i64, usize> = (0..600).filter(|id| id % 3 != 0).map(|id| (id, 7)).collect();
    rows.extend((200..400).map(|id| (id, 10)));
    rows.into_iter().collect()
}

fn unchanged() -> Vec<(i64, usize)> {
    (0..300).map(|id| (id, 6)).collect()
}

/// What the real engine finds by the index.
fn check_index(dir: &Path, rows: &[(&str, usize)]) -> Result<()> {
    let Some(mut host) = GenjiHost::start(dir)? else { return Ok(()) };
    for (text, count) in rows {
        assert_eq!(host.query(&format!("SELECT id FROM t WHERE v = '{text}'"))?.len(), *count, "{text}");
    }
    host.close()
}

#[test]
fn a_large_transaction_is_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = prepared(dir.path());
    let mut tail = Snapshot::open(dir.path(), &ReadOptions::default())?.into_tail();
    let mut transaction = database.begin();
    change(&mut transaction)?;
    assert_eq!(tail.poll()?, None);
    let position = transaction.commit()?.unwrap();
    let seen = tail.poll()?.unwrap();
    assert_eq!((seen.position, seen.partial), (position, false));
    assert_eq!(seen.items.len(), 534);
    assert_eq!(lengths(&database), changed());
    drop(database);
    assert_eq!(lengths(&Database::open(dir.path(), &tight())?), changed());
    check_index(dir.path(), &[("before", 0), ("between", 267), ("afterwards", 200)])
}

#[test]
fn undone_it_leaves_no_trace() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = prepared(dir.path());
    let mut transaction = database.begin();
    change(&mut transaction)?;
    drop(transaction);
    assert_eq!(lengths(&database), unchanged());
    put(&database, 0..1, "before");
    drop(database);
    check_index(dir.path(), &[("before", 300), ("between", 0), ("afterwards", 0)])?;
    assert_eq!(lengths(&Database::open(dir.path(), &tight())?), unchanged());
    Ok(())
}

/// A copy of a directory as one moment shows it: taken again where a compaction changed files meanwhile.
fn copied(dir: &Path) -> Result<tempfile::TempDir> {
    let listing = || -> std::io::Result<BTreeMap<_, _>> {
        std::fs::read_dir(dir)?
            .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.metadata()?.len()))))
            .collect()
    };
    loop {
        let copy = tempfile::tempdir()?;
        let Ok(before) = listing() else { continue };
        for path in before.keys() {
            std::fs::copy(path, copy.path().join(path.file_name().unwrap())).ok();
        }
        if listing().is_ok_and(|after| after == before) {
            return Ok(copy);
        }
    }
}

/// Killed inside the transaction, as a copy of the directory shows it.
#[test]
fn cut_short_it_is_undone_by_the_next_open() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = prepared(dir.path());
    let mut transaction = database.begin();
    change(&mut transaction)?;
    let killed = copied(dir.path())?;
    let reopened = Database::open(killed.path(), &tight())?;
    assert_eq!(lengths(&reopened), unchanged());
    put(&reopened, 0..1, "before");
    drop(reopened);
    check_index(killed.path(), &[("before", 300), ("between", 0), ("afterwards", 0)])
}

/// Readers wait for its end and never see a part.
#[test]
fn readers_see_all_or_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = prepared(dir.path());
    std::thread::scope(|scope| {
        let mut transaction = database.begin();
        change(&mut transaction)?;
        let reader = scope.spawn(|| lengths(&database));
        transaction.commit()?;
        assert_eq!(reader.join().unwrap(), changed());
        Ok(())
    })
}

/// More than the tail keeps in memory: it comes in parts that end together, the tables in the order of their definitions.
#[test]
fn a_tail_gives_out_a_huge_transaction_in_parts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database =
        Database::open(dir.path(), &HostOptions { spill_bytes: 3 << 20, ..HostOptions::default() })?;
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    put(&database, 0..10, "before");
    let mut tails = Vec::new();
    for _ in 0..2 {
        tails.push(Snapshot::open(dir.path(), &ReadOptions::default())?.into_tail());
    }
    let mut transaction = database.begin();
    let text = "v".repeat(1000);
    let fill = |transaction: &mut WriteTransaction<'_>| -> Result<()> {
        for id in 0..12_000 {
            let row = [("id".to_owned(), Value::Int(id)), ("v".to_owned(), text.as_str().into())];
            transaction.upsert("t", &row)?;
        }
        Ok(())
    };
    fill(&mut transaction)?;
    transaction.execute("DROP TABLE t", &[])?;
    transaction.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT)", &[])?;
    fill(&mut transaction)?;
    assert!(tails.iter_mut().all(|tail| tail.poll_part().is_ok_and(|part| part.is_none())));
    let position = transaction.commit()?.unwrap();

    let mut parts = 0;
    let mut said = Vec::new();
    let mut more = true;
    while more {
        let part = tails[0].poll_part()?.unwrap();
        assert_eq!((part.position, part.partial), (position, false));
        assert!(part.items.len() < 20_000);
        parts += 1;
        more = part.more;
        assert_eq!(tails[0].passed() == position.sequence, !more);
        for item in part.items {
            let said_now = match item {
                Item::Row(event) => format!("{:?} {}", event.operation, event.schema.columns.len()),
                Item::Schema(SchemaChange::Drop { .. }) => "drop".to_owned(),
                Item::Schema(_) => "define".to_owned(),
            };
            if said.last() != Some(&said_now) {
                said.push(said_now);
            }
        }
    }
    assert!(parts > 5, "{parts}");
    assert_eq!(said, ["Upsert 2", "Delete 2", "drop", "define", "Upsert 3"]);
    let whole = tails[1].poll()?.unwrap();
    assert_eq!((whole.position, whole.more), (position, false));
    assert!(whole.items.len() > 30_000);
    assert_eq!(tails[1].poll()?, None);
    Ok(())
}

/// Rows of the relations by name and key.
type Rows = BTreeMap<String, BTreeMap<String, String>>;

fn rows(snapshot: &Snapshot) -> Result<Rows> {
    let mut rows = Rows::new();
    for schema in snapshot.relations() {
        let of_relation = rows.entry(schema.relation.clone()).or_default();
        for row in snapshot.rows(&schema.relation)? {
            let row = row?;
            of_relation.insert(format!("{:?}", &row[..1]), format!("{row:?}"));
        }
    }
    Ok(rows)
}

/// What is open at a snapshot is kept in records of a MiB and not shown; the tail behind it brings all of it.
#[test]
fn a_snapshot_inside_a_huge_transaction() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = HostOptions { spill_bytes: 3 << 20, ..HostOptions::default() };
    let database = Database::open(dir.path(), &options)?;
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    run(
        &database,
        &["CREATE TABLE u (id INTEGER PRIMARY KEY, v TEXT)", "INSERT INTO u (id, v) VALUES (1, 'a')"],
    );
    put(&database, 0..10, "before");
    let before = rows(&Snapshot::open(dir.path(), &ReadOptions::default())?)?;

    let mut transaction = database.begin();
    transaction.execute("DELETE FROM t WHERE id = 0", &[])?;
    transaction.execute("DROP TABLE u", &[])?;
    transaction.execute("CREATE TABLE u (id INTEGER PRIMARY KEY, w DOUBLE)", &[])?;
    transaction.execute("INSERT INTO u (id, w) VALUES (2, 0.5)", &[])?;
    let text = "v".repeat(1000);
    for id in 1..20_000 {
        let row = [("id".to_owned(), Value::Int(id)), ("v".to_owned(), text.as_str().into())];
        transaction.upsert("t", &row)?;
    }
    let snapshot = Snapshot::open(dir.path(), &ReadOptions::default())?;
    let mut mirrored = rows(&snapshot)?;
    assert!(mirrored == before, "something of it shows");
    let mut tail = snapshot.into_tail();
    transaction.commit()?;
    let (mut parts, mut more) = (0, true);
    while more {
        let part = tail.poll_part()?.unwrap();
        (parts, more) = (parts + 1, part.more);
        for item in part.items {
            let Item::Row(event) = item else { continue };
            let rows = mirrored.entry(event.schema.relation.clone()).or_default();
            let key = format!("{:?}", event.key);
            match event.after {
                Some(row) => rows.insert(key, format!("{row:?}")),
                None => rows.remove(&key),
            };
        }
    }
    assert!(parts > 5, "{parts}");
    assert!(mirrored == rows(&Snapshot::open(dir.path(), &ReadOptions::default())?)?, "the tail differs");
    assert_eq!((mirrored["t"].len(), mirrored["u"].len()), (19_999, 1));
    Ok(())
}
