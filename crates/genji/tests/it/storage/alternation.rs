//! This crate and the real engine in turns over one directory, each killed at any moment, everything compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use deltamesh_change::{Value, to_json};
use deltamesh_genji::{Database, HostOptions};
use deltamesh_testkit::{GenjiHost, Random};
use serde_json::{Value as Json, json};

use crate::process::OurHost;

/// Bytes under which a few rows already fill the memtable.
const MEMTABLE: usize = 16_000;
const CREATE: [&str; 3] = [
    "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount INTEGER, pad TEXT)",
    "CREATE INDEX item_amount ON item (amount)",
    "CREATE TABLE note",
];

/// What the tables must hold.
#[derive(Clone, Default, PartialEq)]
struct Model {
    items: BTreeMap<u64, (String, u64, String)>,
    notes: BTreeMap<String, usize>,
}

impl Model {
    /// A statement that must succeed, and the state after it.
    fn next(&self, dice: &mut Random, step: u64) -> (String, Self) {
        let mut after = self.clone();
        let (id, code, amount) = (dice.below(300) as u64, format!("c{step}"), dice.below(20) as u64);
        let pad = "p".repeat(dice.below(400));
        let statement = match dice.below(16) {
            0 => "DROP INDEX IF EXISTS item_amount".to_owned(),
            1 => "CREATE INDEX IF NOT EXISTS item_amount ON item (amount)".to_owned(),
            2..5 => {
                *after.notes.entry(code.clone()).or_default() += 1;
                format!("INSERT INTO note VALUES {{body: '{code}'}}")
            }
            _ => match after.items.remove(&id) {
                Some(_) if dice.below(3) == 0 => format!("DELETE FROM item WHERE id = {id}"),
                Some(_) => {
                    after.items.insert(id, (code.clone(), amount, pad.clone()));
                    format!(
                        "UPDATE item SET code = '{code}', amount = {amount}, pad = '{pad}' WHERE id = {id}"
                    )
                }
                None => {
                    after.items.insert(id, (code.clone(), amount, pad.clone()));
                    format!(
                        "INSERT INTO item (id, code, amount, pad) VALUES ({id}, '{code}', {amount}, '{pad}')"
                    )
                }
            },
        };
        (statement, after)
    }

    fn rows(&self) -> (Vec<String>, Vec<String>) {
        let item = |(id, (code, amount, pad)): (&u64, &(String, u64, String))| json!({"id": id, "code": code, "amount": amount, "pad": pad});
        let notes = self.notes.iter().flat_map(|(text, count)| std::iter::repeat_n(text, *count));
        (sorted(self.items.iter().map(item)), sorted(notes.map(|text| json!({"body": text}))))
    }
}

/// Rows as texts that do not depend on the order of fields.
fn sorted(rows: impl Iterator<Item = Json>) -> Vec<String> {
    let text = |row: Json| match row {
        Json::Object(fields) => format!("{:?}", fields.into_iter().collect::<BTreeMap<_, _>>()),
        other => other.to_string(),
    };
    let mut rows: Vec<String> = rows.map(text).collect();
    rows.sort();
    rows
}

/// The state that the directory must be in: known, or one of two after a kill.
struct Expected {
    model: Model,
    perhaps: Option<Model>,
}

impl Expected {
    fn settle(&mut self, found: &(Vec<String>, Vec<String>)) {
        if let Some(perhaps) = self.perhaps.take()
            && perhaps.rows() == *found
        {
            self.model = perhaps;
        }
        assert!(self.model.rows() == *found, "rows differ: {} and {}", self.model.items.len(), found.0.len());
    }

    fn check_ours(&mut self, dir: &Path) -> Result<()> {
        let database = Database::open(dir, &options())?;
        let rows = |table: &str| -> Result<Vec<String>> {
            let rows = database.scan(table)?.into_iter();
            Ok(sorted(rows.map(|(_, row)| to_json(&Value::Document(row)))))
        };
        self.settle(&(rows("item")?, rows("note")?));
        Ok(database.close()?)
    }

    fn check_theirs(&mut self, host: &mut GenjiHost) -> Result<()> {
        let mut rows = |select: &str| -> Result<Vec<String>> {
            let rows = host.query(select)?;
            let rows: Result<Vec<Json>, _> = rows.iter().map(|row| serde_json::from_str(row)).collect();
            Ok(sorted(rows?.into_iter()))
        };
        self.settle(&(rows("SELECT * FROM item")?, rows("SELECT * FROM note")?));
        for amount in 0..20 {
            let ids = self.model.items.iter().filter(|(_, row)| row.1 == amount).map(|(id, _)| id);
            let expected = sorted(ids.map(|id| json!({"id": id})));
            assert_eq!(rows(&format!("SELECT id FROM item WHERE amount = {amount}"))?, expected);
        }
        for (id, (code, ..)) in self.model.items.iter().step_by(7) {
            let expected = sorted([json!({"id": id})].into_iter());
            assert_eq!(rows(&format!("SELECT id FROM item WHERE code = '{code}'"))?, expected);
            assert_eq!(rows(&format!("SELECT id FROM item WHERE id = {id}"))?, expected);
        }
        Ok(())
    }
}

fn options() -> HostOptions {
    HostOptions { memtable_bytes: MEMTABLE, retained_log_bytes: 50_000, ..HostOptions::default() }
}

/// A process that has the directory open and runs statements.
enum Writer {
    Ours(OurHost),
    Theirs(GenjiHost),
}

impl Writer {
    /// Runs a statement; `None` if the process is gone.
    fn execute(&mut self, statement: &str) -> Option<()> {
        match self {
            Self::Ours(host) => {
                host.send(statement).ok()?;
                let answer = host.receive().ok()?;
                assert!(answer.is_ok(), "{statement}: {answer:?}");
                Some(())
            }
            Self::Theirs(host) => match host.execute(statement) {
                Ok(()) => Some(()),
                Err(error) if error.to_string().contains("genjihost ended") => None,
                Err(error) if error.downcast_ref::<std::io::Error>().is_some() => None,
                Err(error) => panic!("{statement}: {error}"),
            },
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Ours(host) => host.pid(),
            Self::Theirs(host) => host.pid(),
        }
    }

    fn close(self) -> Result<()> {
        match self {
            Self::Ours(host) => host.close(),
            Self::Theirs(host) => host.close(),
        }
    }

    fn reap(self) -> Result<()> {
        match self {
            Self::Ours(host) => host.kill(),
            Self::Theirs(host) => host.kill(),
        }
    }
}

/// Writes for a while; a killed writer leaves one statement of which nobody knows whether it took effect.
fn write(mut writer: Writer, dice: &mut Random, step: &mut u64, expected: &mut Expected) -> Result<()> {
    let killer = (dice.below(3) > 0).then(|| {
        let (pid, delay) = (writer.pid().to_string(), Duration::from_micros(dice.below(150_000) as u64));
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            Command::new("kill").args(["-9", &pid]).status()
        })
    });
    let count = if killer.is_some() { usize::MAX } else { dice.below(200) };
    for _ in 0..count {
        *step += 1;
        let (statement, after) = expected.model.next(dice, *step);
        if writer.execute(&statement).is_none() {
            expected.perhaps = Some(after);
            break;
        }
        expected.model = after;
    }
    match killer {
        Some(killer) => {
            assert!(killer.join().expect("the killer does not panic")?.success());
            writer.reap()
        }
        None => writer.close(),
    }
}

fn alternate(rounds: u64) -> Result<()> {
    if deltamesh_testkit::reference("genjihost").is_none() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let database = Database::open(dir.path(), &options())?;
    for statement in CREATE {
        database.execute(statement, &[])?;
    }
    drop(database);
    let (mut dice, mut step) = (Random(rounds), 0);
    let mut expected = Expected { model: Model::default(), perhaps: None };
    for _ in 0..rounds {
        expected.check_ours(dir.path())?;
        if dice.below(2) == 0 {
            write(Writer::Ours(OurHost::start(dir.path(), MEMTABLE)?), &mut dice, &mut step, &mut expected)?;
        }
        let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
        expected.check_theirs(&mut host)?;
        match dice.below(4) {
            0 => host.execute(".flush")?,
            1 => host.execute(".compact")?,
            _ => {}
        }
        if dice.below(2) == 0 {
            write(Writer::Theirs(host), &mut dice, &mut step, &mut expected)?;
        } else {
            host.close()?;
        }
    }
    expected.check_ours(dir.path())
}

#[test]
fn alternations_with_kills() -> Result<()> {
    alternate(6)
}

/// Takes a minute or two.
#[test]
#[ignore = "long; run with --ignored"]
fn a_hundred_alternations_with_kills() -> Result<()> {
    alternate(100)
}
