//! The real Chai: directories that it wrote are inspected, and one is tapped while it writes, dies and opens again.

use std::collections::BTreeMap;
use std::path::Path;

use deltamesh_ingest_genji::Mode;
use deltamesh_testkit::{GenjiHost, workspace_root};
use serde_json::Value as Json;

use crate::inspect::{inspect, json};
use crate::tap::{dump, faults};
use crate::{Ingest, Mirror, read_until, start};

/// Changes of a transaction that ended and changed something, in an order of their own: Chai undoes one that died. What Chai lists does not tell how a transaction
/// came into the log.
fn transactions(changes: &Json) -> Vec<Json> {
    let mut transactions = changes.as_array().expect("changes").clone();
    transactions.retain(|transaction| transaction["kind"] != "open");
    for transaction in &mut transactions {
        transaction.as_object_mut().expect("transaction").remove("kind");
        for part in ["schema", "changes"] {
            let entries = transaction[part].as_array_mut().expect("entries");
            entries.retain(|entry| entry["op"] != "noop");
            entries.sort_by_key(|entry| ["name", "table", "key"].map(|field| entry[field].to_string()));
        }
    }
    transactions.retain(|transaction| {
        transaction["schema"] != Json::from([(); 0]) || transaction["changes"] != Json::from([(); 0])
    });
    transactions
}

#[test]
fn inspect_shows_what_the_real_engine_shows() {
    let folder = workspace_root().join("crates/genji/tests/fixtures/chai");
    for entry in std::fs::read_dir(folder).expect("folder") {
        let case = entry.expect("entry").path();
        let Ok(expected) = std::fs::read_to_string(case.join("expected.json")) else { continue };
        let expected: Json = serde_json::from_str(&expected).expect("json");
        let name = case.display();
        let output = inspect(&case.join("db"), &["--snapshot", "--log", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{name}");
        let ours = json(&output);
        let [tables, theirs] = [&ours, &expected].map(|all| all["tables"].as_object().expect("tables"));
        assert_eq!(tables.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        for (table, rows) in theirs {
            assert_eq!(&tables[table], rows, "{name} {table}");
        }
        if expected["changes"].is_null() {
            continue;
        }
        let [ours, theirs] = [&ours, &expected].map(|all| transactions(&all["changes"]));
        for (index, theirs) in theirs.iter().enumerate() {
            assert_eq!(ours.get(index), Some(theirs), "{name} transaction {index}");
        }
        assert_eq!(ours.len(), theirs.len(), "{name}");
    }
}

/// Spilled transactions begin at so many bytes.
const SPILLS: [&str; 2] = ["-maxbatch", "100000"];
const TABLES: [(&str, &[&str]); 3] =
    [("t", &["id", "pad"]), ("k", &["a", "b", "c", "ts"]), ("again", &["id", "pad"])];

fn open(dir: &Path) -> Option<GenjiHost> {
    GenjiHost::start_chai(dir, &SPILLS).expect("engine")
}

/// One process of the application: writes at full speed, and ends in the middle of a spilled transaction.
fn write(host: &mut GenjiHost, round: i64) {
    let first = round * 1_000_000;
    let mut run = |line: &str| host.execute(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    run(&format!(".fill t {first} 3000 90 1"));
    run(&format!(".fill t {} 20000 90 1000", first + 10_000));
    run(&format!("UPDATE t SET pad = 'changed' WHERE id >= {first} AND id < {}", first + 100));
    run(&format!("DELETE FROM t WHERE id >= {} AND id < {}", first + 200, first + 300));
    for key in 0..50 {
        let time = format!("2021-05-06T07:{key:02}:00Z");
        run(&format!("INSERT INTO k(a, b, c, ts) VALUES ({round}, 'b{key}', {key}.5, '{time}')"));
    }
    run(&format!("DELETE FROM k WHERE a = {round} AND c > 40"));
    run("BEGIN");
    run(&format!(".fill t {} 3000 90 1", first + 500_000));
    run(if round % 2 == 0 { "COMMIT" } else { "ROLLBACK" });
    run("DROP TABLE again");
    run("CREATE TABLE again(id INTEGER PRIMARY KEY, pad TEXT)");
    run(&format!(".fill again {first} 100 10 10"));
    if round % 2 == 1 {
        run(".flush");
    }
    run("BEGIN");
    run(&format!(".fill t {} 3000 90 1", first + 700_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_follows_through_kills_and_opens() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = open(dir.path()) else { return };
    for line in [
        "CREATE TABLE t(id INTEGER PRIMARY KEY, pad TEXT)",
        "CREATE TABLE k(a BIGINT, b TEXT, c DOUBLE PRECISION, ts TIMESTAMP, PRIMARY KEY(a DESC, b))",
        "CREATE TABLE again(id INTEGER PRIMARY KEY, pad TEXT)",
        "INSERT INTO t(id, pad) VALUES (-1, 'before')",
    ] {
        host.execute(line).expect(line);
    }
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.rows("t") == 1).await;
    let rounds = 4;
    let place = dir.path().to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        for round in 1..=rounds {
            write(&mut host, round);
            // The spilled transaction dies with its host.
            host.kill().expect("kill");
            host = open(&place).expect("present");
        }
        host.execute("CREATE TABLE finished(id INTEGER PRIMARY KEY)").expect("create");
        host
    });
    read_until(&mut mirror, |mirror| mirror.relations.contains_key("finished")).await;
    let mut host = writing.await.expect("writes");
    let mut rows = BTreeMap::new();
    for (table, columns) in TABLES {
        let (found, expected) = (mirror.dump(table, columns), dump(&mut host, table, columns));
        assert!(found == expected, "{table}: {} rows, {} expected", found.len(), expected.len());
        rows.insert(table, found.len());
    }
    println!("{rows:?}; {mirror:?}");
    assert_eq!(mirror.snapshots, 1);
    assert_eq!(faults(&client).await, []);
    ingest.stop().await;
}
