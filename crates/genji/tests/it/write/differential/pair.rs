//! The two engines side by side, each with a directory of its own.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use deltamesh_testkit::{GenjiHost, Random};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tempfile::TempDir;

use super::statement::Answer;
use crate::process::OurHost;

/// Rows, or why a statement was refused.
type Outcome = Result<Vec<String>, String>;

/// Between two keys that differ in a number Genji writes a third into its tables that ends in the middle of the number, and
/// cannot compare others with it.
const BROKEN_TABLE: &str = "PANIC: runtime error: slice bounds out of range [:";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Side {
    Ours,
    Theirs,
}

/// What came of a statement given to both.
pub(super) enum Given {
    /// Both gave the same answer.
    Done { succeeded: bool },
    /// The real engine met [`BROKEN_TABLE`], or panicked at what this crate refused.
    Broken,
    /// One engine was killed meanwhile; whether the statement succeeded in the other.
    Lost { side: Side, survived: bool },
}

pub(super) struct Pair {
    ours: Option<OurHost>,
    theirs: Option<GenjiHost>,
    directories: [TempDir; 2],
    killer: Option<JoinHandle<()>>,
    pub(super) statements: u64,
    pub(super) kills: u64,
    /// Whether the real engine panicked: nothing more can be compared.
    pub(super) is_broken: bool,
}

impl Pair {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            ours: None,
            theirs: None,
            directories: [tempfile::tempdir()?, tempfile::tempdir()?],
            killer: None,
            statements: 0,
            kills: 0,
            is_broken: false,
        })
    }

    /// Starts both engines; with `swap` each on the directory that the other had.
    pub(super) fn open(&mut self, random: &mut Random, swap: bool) -> Result<()> {
        if swap {
            self.directories.swap(0, 1);
        }
        let memtable_bytes = *random.pick(&[2_000, 20_000, 4 << 20]);
        self.ours = Some(OurHost::start(self.directories[0].path(), memtable_bytes)?);
        self.theirs = GenjiHost::start(self.directories[1].path())?;
        Ok(())
    }

    fn both(&mut self) -> Result<(&mut OurHost, &mut GenjiHost)> {
        Ok((self.ours.as_mut().context("not open")?, self.theirs.as_mut().context("not open")?))
    }

    /// Gives both a statement, each in its own words, and returns what they say; `Err` is an engine that was killed.
    fn ask(&mut self, ours: &str, theirs: &str) -> Result<Result<(Outcome, Outcome), (Side, bool)>> {
        let (our_host, their_host) = self.both()?;
        let sent = our_host.send(&format!(".query {ours}"));
        let theirs = match their_host.query(theirs) {
            Err(error) if is_end(&error) => None,
            other => Some(other.map_err(|error| error.to_string())),
        };
        let ours = if sent.is_ok() { our_host.receive().ok() } else { None };
        Ok(match (ours, theirs) {
            (Some(ours), Some(theirs)) => Ok((ours, theirs)),
            (None, Some(theirs)) => Err((Side::Ours, theirs.is_ok())),
            (Some(ours), None) => Err((Side::Theirs, ours.is_ok())),
            (None, None) => anyhow::bail!("both engines ended"),
        })
    }

    /// Gives both a statement and compares what they say. The error names the difference.
    pub(super) fn give(&mut self, sql: &str, answer: Answer) -> Result<Given> {
        self.statements += 1;
        let (ours, theirs) = match self.ask(sql, sql)? {
            Ok(outcomes) => outcomes,
            Err((side, survived)) => {
                anyhow::ensure!(self.killer.is_some(), "{side:?} ended by itself: {sql}");
                return Ok(Given::Lost { side, survived });
            }
        };
        let same = match (&ours, &theirs) {
            // A panic may leave the half of a statement written.
            (ours, Err(theirs))
                if theirs.starts_with(BROKEN_TABLE) || ours.is_err() && theirs.starts_with("PANIC") =>
            {
                self.is_broken = true;
                return Ok(Given::Broken);
            }
            (Err(ours), Err(theirs)) => kind_of(theirs).is_none_or(|kind| ours.starts_with(kind)),
            (Ok(ours), Ok(theirs)) => match answer {
                Answer::Outcome => true,
                Answer::Rows => texts(ours, true) == texts(theirs, true),
                Answer::Ordered => texts(ours, false) == texts(theirs, false),
            },
            _ => false,
        };
        anyhow::ensure!(same, "{sql}\nours:   {}\ntheirs: {}", shown(&ours, &theirs), shown(&theirs, &ours));
        Ok(Given::Done { succeeded: ours.is_ok() })
    }

    /// As [`Self::give`] for what only looks: nothing may be lost on the way.
    pub(super) fn same(&mut self, sql: &str) -> Result<()> {
        self.same_as(sql, sql)
    }

    /// Compares the rows of two queries that say the same.
    pub(super) fn same_as(&mut self, ours: &str, theirs: &str) -> Result<()> {
        let query = theirs;
        let (our_rows, their_rows) =
            self.ask(ours, theirs)?.map_err(|(side, _)| anyhow::anyhow!("{side:?} ended by itself"))?;
        let same = match (&our_rows, &their_rows) {
            (Ok(ours), Ok(theirs)) => texts(ours, true) == texts(theirs, true),
            (_, Err(theirs)) if theirs.starts_with(BROKEN_TABLE) => {
                self.is_broken = true;
                true
            }
            _ => false,
        };
        let (ours, theirs) = (shown(&our_rows, &their_rows), shown(&their_rows, &our_rows));
        anyhow::ensure!(same, "{query}\nours:   {ours}\ntheirs: {theirs}");
        Ok(())
    }

    /// Whether both hold the same rows in these tables.
    pub(super) fn is_same(&mut self, queries: &[String]) -> bool {
        queries.iter().all(|query| self.same(query).is_ok())
    }

    /// A command of the real engine's host.
    pub(super) fn command_theirs(&mut self, command: &str) -> Result<()> {
        self.both()?.1.execute(command)
    }

    /// Runs statements on one side only.
    pub(super) fn replay(&mut self, side: Side, statements: &[String]) -> Result<()> {
        for sql in statements {
            let (ours, theirs) = self.both()?;
            match side {
                Side::Ours => {
                    ours.send(sql)?;
                    ours.receive()?.ok();
                }
                Side::Theirs => {
                    theirs.execute(sql).ok();
                }
            }
        }
        Ok(())
    }

    /// Lets one side be killed after so long.
    pub(super) fn arm(&mut self, side: Side, delay: Duration) -> Result<()> {
        let (ours, theirs) = self.both()?;
        let pid = if side == Side::Ours { ours.pid() } else { theirs.pid() };
        let pid = Pid::from_raw(pid.try_into()?).context("no process")?;
        self.killer = Some(std::thread::spawn(move || {
            std::thread::sleep(delay);
            // Not reaped yet, the process is there even if it ended.
            kill_process(pid, Signal::KILL).expect("a process of this test can be killed");
        }));
        Ok(())
    }

    /// Ends one side.
    pub(super) fn end(&mut self, side: Side, by_kill: bool) -> Result<()> {
        if let Some(killer) = self.killer.take() {
            killer.join().expect("the killer does not panic");
        }
        self.kills += u64::from(by_kill);
        match (side, by_kill) {
            (Side::Ours, true) => self.ours.take().map_or(Ok(()), OurHost::kill),
            (Side::Ours, false) => self.ours.take().map_or(Ok(()), OurHost::close),
            (Side::Theirs, true) => self.theirs.take().map_or(Ok(()), GenjiHost::kill),
            (Side::Theirs, false) => self.theirs.take().map_or(Ok(()), GenjiHost::close),
        }
    }

    /// Where both engines' files are, for a look after a difference.
    pub(super) fn keep(&mut self) -> [&Path; 2] {
        self.directories.iter_mut().for_each(|directory| directory.disable_cleanup(true));
        [self.directories[0].path(), self.directories[1].path()]
    }
}

fn is_end(error: &anyhow::Error) -> bool {
    error.to_string().contains("genjihost ended") || error.downcast_ref::<std::io::Error>().is_some()
}

/// The kind of this crate's error that a reason of the real engine stands for; none where its reasons are of no one kind.
fn kind_of(reason: &str) -> Option<&'static str> {
    [
        ("PRIMARY KEY constraint", "AlreadyExists"),
        ("UNIQUE constraint", "Constraint"),
        ("NOT NULL constraint", "Constraint"),
        ("document violates check", "Constraint"),
        ("already exists", "AlreadyExists"),
        ("not found", "NotFound"),
        ("cannot cast", "Type"),
        ("expected ", "Syntax"),
    ]
    .into_iter()
    .find_map(|(text, kind)| reason.contains(text).then_some(kind))
}

/// Rows in one form: numbers by value, in an order of their own if theirs does not count.
fn texts(rows: &[String], sort: bool) -> Vec<String> {
    let mut texts: Vec<String> = rows
        .iter()
        .map(|row| serde_json::from_str(row).map_or_else(|_| row.clone(), |row| canonical(row).to_string()))
        .collect();
    if sort {
        texts.sort();
    }
    texts
}

fn canonical(json: Json) -> Json {
    match json {
        // Reading the other engine's text may move the last digit, and doubles without a fraction look like integers.
        Json::Number(number) => match number.as_i64() {
            Some(exact) if exact.abs() < 1 << 50 => format!("{:.12e}", exact as f64).into(),
            _ => format!("{:.12e}", number.as_f64().unwrap_or_default()).into(),
        },
        Json::Array(items) => items.into_iter().map(canonical).collect(),
        Json::Object(fields) => fields.into_iter().map(|(name, value)| (name, canonical(value))).collect(),
        other => other,
    }
}

/// An answer in short: how many rows, and those that the other answer has not.
fn shown(outcome: &Outcome, other: &Outcome) -> String {
    match (outcome, other) {
        (Ok(rows), Ok(other)) => {
            let mut other = texts(other, false);
            let mut own = texts(rows, false);
            own.retain(|row| match other.iter().position(|same| same == row) {
                Some(at) => {
                    other.swap_remove(at);
                    false
                }
                None => true,
            });
            format!("{} rows, of these only here: {}", rows.len(), own.join(" "))
        }
        (Ok(rows), Err(_)) => format!("{} rows", rows.len()),
        (Err(reason), _) => format!("err: {reason}"),
    }
}
