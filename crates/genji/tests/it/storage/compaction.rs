//! Tables are merged while the database is written to, and nothing is lost by it.

use anyhow::Result;
use deltamesh_genji::{Database, ReadOptions, Snapshot};
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
