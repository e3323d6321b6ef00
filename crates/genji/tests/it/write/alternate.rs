//! This crate and the real engine in turns over one directory, with kills.

use std::collections::BTreeMap;

use anyhow::Result;
use deltamesh_change::{Item, to_json};
use deltamesh_genji::{Database, HostOptions, ReadOptions, Snapshot, Tail};
use deltamesh_testkit::{GenjiHost, Random, number};

use super::{normal, open, ours, sorted, theirs};

/// Rounds of the alternation; more by `DELTAMESH_GENJI_ROUNDS`.
const ROUNDS: u64 = 10;

/// What the tables must hold.
#[derive(Default)]
struct Model {
    items: BTreeMap<u64, (String, u64, String)>,
    notes: BTreeMap<String, usize>,
    step: u64,
}

const CREATE: [&str; 3] = [
    "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount INTEGER, pad TEXT)",
    "CREATE INDEX item_amount ON item (amount)",
    "CREATE TABLE note",
];

impl Model {
    /// A random statement that must succeed, already counted as done.
    fn next(&mut self, dice: &mut Random) -> String {
        self.step += 1;
        let id = dice.below(200) as u64;
        let code = format!("c{}", self.step);
        let amount = dice.below(20) as u64;
        let pad = "p".repeat(dice.below(300));
        match dice.below(4) {
            0 => {
                let text = format!("n{}", self.step);
                let statement = format!("INSERT INTO note VALUES {{body: '{text}'}}");
                *self.notes.entry(text).or_default() += 1;
                statement
            }
            1 if self.items.contains_key(&id) => {
                self.items.remove(&id);
                format!("DELETE FROM item WHERE id = {id}")
            }
            _ if self.items.contains_key(&id) => {
                let statement = format!(
                    "UPDATE item SET code = '{code}', amount = {amount}, pad = '{pad}' WHERE id = {id}"
                );
                self.items.insert(id, (code, amount, pad));
                statement
            }
            _ => {
                let statement = format!(
                    "INSERT INTO item (id, code, amount, pad) VALUES ({id}, '{code}', {amount}, '{pad}')"
                );
                self.items.insert(id, (code, amount, pad));
                statement
            }
        }
    }

    fn items(&self) -> Vec<String> {
        let row = |(id, (code, amount, pad)): (&u64, &(String, u64, String))| serde_json::json!({"id": id, "code": code, "amount": amount, "pad": pad});
        sorted(self.items.iter().map(row))
    }

    fn notes(&self) -> Vec<String> {
        let repeated = self.notes.iter().flat_map(|(text, count)| std::iter::repeat_n(text, *count));
        sorted(repeated.map(|text| serde_json::json!({"body": text})))
    }

    fn check_ours(&self, database: &Database) {
        assert_eq!(ours(database, "item"), self.items());
        assert_eq!(ours(database, "note"), self.notes());
    }

    fn check_theirs(&self, host: &mut GenjiHost) {
        assert_eq!(theirs(host, "SELECT * FROM item"), self.items());
        assert_eq!(theirs(host, "SELECT * FROM note"), self.notes());
        for amount in 0..20 {
            let by_index = theirs(host, &format!("SELECT id FROM item WHERE amount = {amount}"));
            let ids = self.items.iter().filter(|(_, row)| row.1 == amount).map(|(id, _)| id);
            assert_eq!(by_index, sorted(ids.map(|id| normal(serde_json::json!({"id": id})))));
        }
    }
}

/// What a tail over the directory has seen of table `item`.
struct Mirror {
    tail: Tail,
    items: BTreeMap<String, serde_json::Value>,
}

impl Mirror {
    /// Reads on; a missed or repeated transaction would be an error here.
    fn catch_up(&mut self) -> Result<()> {
        while let Some(transaction) = self.tail.poll()? {
            for item in transaction.items {
                let Item::Row(event) = item else { continue };
                if event.schema.relation != "item" {
                    continue;
                }
                let key = to_json(&event.key[0]).to_string();
                let names = event.schema.columns.iter().map(|column| column.name.clone());
                match event.after {
                    Some(row) => {
                        let row = names.zip(row.iter().map(to_json)).collect::<serde_json::Map<_, _>>();
                        self.items.insert(key, row.into());
                    }
                    None => {
                        self.items.remove(&key);
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, model: &Model) -> Result<()> {
        self.catch_up()?;
        assert_eq!(sorted(self.items.values().cloned()), model.items());
        Ok(())
    }
}

fn options(dice: &mut Random) -> HostOptions {
    let memtable_bytes = [2_000, 20_000, 4 << 20][dice.below(3)];
    HostOptions {
        memtable_bytes,
        retained_log_bytes: dice.below(2) as u64 * 10_000,
        ..HostOptions::default()
    }
}

#[test]
fn in_turns_with_kills() -> Result<()> {
    let dir = tempfile::tempdir()?;
    if deltamesh_testkit::reference("genjihost").is_none() {
        return Ok(());
    }
    let rounds = number("DELTAMESH_GENJI_ROUNDS", ROUNDS).unwrap();
    let mut dice = Random(rounds);
    let mut model = Model::default();
    let database = open(dir.path());
    for statement in CREATE {
        database.execute(statement, &[])?;
    }
    drop(database);
    let tail = Snapshot::open(dir.path(), &ReadOptions::default())?.into_tail();
    let mut mirror = Mirror { tail, items: BTreeMap::new() };
    for _ in 0..rounds {
        let database = Database::open(dir.path(), &options(&mut dice))?;
        model.check_ours(&database);
        for _ in 0..dice.below(120) {
            let statement = model.next(&mut dice);
            database.execute(&statement, &[])?;
            mirror.catch_up()?;
        }
        model.check_ours(&database);
        mirror.check(&model)?;
        // Dropped without being closed, it leaves what a kill leaves.
        if dice.below(2) == 0 {
            database.close()?;
        } else {
            drop(database);
        }
        let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
        model.check_theirs(&mut host);
        for _ in 0..dice.below(120) {
            let statement = model.next(&mut dice);
            host.execute(&statement)?;
        }
        mirror.check(&model)?;
        if dice.below(3) == 0 {
            host.execute(".flush")?;
        }
        model.check_theirs(&mut host);
        if dice.below(2) == 0 {
            host.close()?
        } else {
            host.kill()?
        }
        // What a close writes last is flushed by the next open.
        mirror.catch_up()?;
    }
    Ok(())
}
