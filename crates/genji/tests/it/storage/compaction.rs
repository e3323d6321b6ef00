//! Tables are merged while the database is written to, and nothing is lost by it.

use anyhow::Result;
use deltamesh_genji::{Database, HostOptions, ReadOptions, Snapshot};
use deltamesh_testkit::GenjiHost;

use super::{count, lengths, put, run, small};

/// Hundreds of flushes leave few tables, the rows that were written, and none that were deleted.
#[test]
fn many_flushes_leave_few_tables() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), &small()).unwrap();
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    for round in 0..10 {
        put(&database, 0..60, &"v".repeat(100 + round));
    }
    for id in 0..60 {
        if id % 3 != 0 {
            run(&database, &[&format!("DELETE FROM t WHERE id = {id}")]);
        }
    }
    let expected: Vec<_> = (0..60).step_by(3).map(|id| (id, 109)).collect();
    assert_eq!(lengths(&database), expected);
    database.close().unwrap();
    for _ in 0..2 {
        let database = Database::open(dir.path(), &small()).unwrap();
        assert_eq!(lengths(&database), expected);
        drop(database);
    }
    assert!(count(dir.path(), "sst") <= 16, "{}", count(dir.path(), "sst"));
}

/// The real engine opens what was compacted, compacts it itself, and this crate goes on.
#[test]
fn the_real_engine_compacts_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = Database::open(dir.path(), &small())?;
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "CREATE INDEX t_v ON t (v)"]);
    put(&database, 0..200, "first");
    put(&database, (0..200).step_by(2), "second");
    for id in (0..200).step_by(5) {
        run(&database, &[&format!("DELETE FROM t WHERE id = {id}")]);
    }
    let expected = lengths(&database);
    drop(database);
    for round in 0..3 {
        let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
        assert_eq!(host.query("SELECT id FROM t")?.len(), expected.len());
        assert_eq!(host.query("SELECT id FROM t WHERE v = 'second'")?.len(), 80);
        assert_eq!(host.query("SELECT id FROM t WHERE id = 7")?.len(), 1);
        host.execute(".flush")?;
        host.execute(".compact")?;
        if round == 1 {
            host.kill()?
        } else {
            host.close()?
        }
        let database = Database::open(dir.path(), &small())?;
        assert_eq!(lengths(&database), expected);
        put(&database, 1000..1100, "more");
        put(&database, 1000..1100, "again");
        for id in 1000..1100 {
            run(&database, &[&format!("DELETE FROM t WHERE id = {id}")]);
        }
        assert_eq!(lengths(&database), expected);
    }
    Ok(())
}

/// A snapshot by the reading side, taken while tables come and go, is complete.
#[test]
fn snapshots_meanwhile() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = Database::open(dir.path(), &small())?;
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    put(&database, 0..100, "kept");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..20 {
                put(&database, 100..130, "fleeting");
            }
        });
        let mut taken = 0;
        while !writer.is_finished() || taken == 0 {
            let Ok(snapshot) = Snapshot::open(dir.path(), &ReadOptions::default()) else { continue };
            let rows: Result<Vec<_>, _> = snapshot.rows("t").unwrap().collect();
            assert!((100..=130).contains(&rows.unwrap().len()));
            taken += 1;
        }
    });
    Ok(())
}

/// Keys with long texts have no order among others: their tables are merged among themselves, and stay few.
#[test]
fn long_keys_leave_few_tables() {
    let dir = tempfile::tempdir().unwrap();
    let options = HostOptions { spill_bytes: 20_000, ..small() };
    let database = Database::open(dir.path(), &options).unwrap();
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", "CREATE INDEX t_v ON t (v)"]);
    // What a large transaction notes of each index entry has more than 127 bytes.
    for round in 0..6 {
        let mut transaction = database.begin();
        for id in 0..300 {
            let text = format!("{round}{}", "v".repeat(115));
            transaction.upsert("t", &[("id".to_owned(), id.into()), ("v".to_owned(), text.into())]).unwrap();
        }
        transaction.commit().unwrap();
    }
    put(&database, 300..310, "");
    let rows = database.execute(&format!("SELECT id FROM t WHERE v = '5{}'", "v".repeat(115)), &[]).unwrap();
    assert_eq!(rows.documents.len(), 300);
    assert!(!database.is_compaction_hindered());
    database.close().unwrap();
    drop(Database::open(dir.path(), &options).unwrap());
    assert!(count(dir.path(), "sst") <= 20, "{}", count(dir.path(), "sst"));
}

/// Where the real engine has mixed such keys into a table, that is told; level 0 stays small, and rows are right.
#[test]
fn mixed_keys_hinder_and_are_told() -> Result<()> {
    for place in [".flush", ".compact"] {
        let dir = tempfile::tempdir()?;
        let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
        host.execute("CREATE TABLE k (k TEXT PRIMARY KEY)")?;
        host.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")?;
        host.execute("INSERT INTO t (id, v) VALUES (0, 'theirs'), (1, 'theirs')")?;
        host.execute(&format!("INSERT INTO k (k) VALUES ('a'), ('{}')", "b".repeat(200)))?;
        host.execute(".flush")?;
        host.execute(place)?;
        host.close()?;
        let database = Database::open(dir.path(), &small())?;
        put(&database, [0], "ours");
        for round in 0..8 {
            put(&database, 100..160, &"v".repeat(100 + round));
        }
        database.sync()?;
        assert!(database.is_compaction_hindered(), "{place}");
        assert_eq!(lengths(&database)[..2], [(0, 4), (1, 6)], "{place}");
        assert_eq!(lengths(&database).len(), 62, "{place}");
        assert_eq!(database.scan("k")?.len(), 2);
        database.close()?;
        assert!(count(dir.path(), "sst") <= 20, "{place}: {}", count(dir.path(), "sst"));
        assert_eq!(lengths(&Database::open(dir.path(), &small())?).len(), 62, "{place}");
    }
    Ok(())
}
