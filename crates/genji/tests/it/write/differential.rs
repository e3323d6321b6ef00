//! Random statements over random schemas, given to this crate and to the real engine, each a process of its own: the same
//! answers, and the same rows, definitions and index entries after closes and kills, also when directories change hands.
//!
//! `DELTAMESH_GENJI_SEED` replays one case, `DELTAMESH_GENJI_CASES` sets how many follow each other from there. A case is
//! three hundred statements or some more; kills in the middle of a statement are the only thing that a seed does not repeat.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

mod pair;
mod schema;
mod statement;

use deltamesh_testkit::{Random, number};

use pair::{Given, Pair, Side};
use schema::{Kind, Schema};
use statement::{Answer, Statement};

/// How a stretch of statements ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// Both engines are closed.
    Close,
    /// Both are killed between two statements.
    Kill,
    /// One is killed at any moment, the other right after it.
    KillDuring(Side),
}

struct Case {
    random: Random,
    pair: Pair,
    schema: Schema,
    /// The open transaction: the schema before it, and its statements.
    open: Option<(Schema, Vec<String>)>,
    /// Killed now, the real engine would give namespaces or values of sequences out again: the statement that made the
    /// rows of its sequences run behind failed, was rolled back, or created something.
    is_behind: bool,
    /// Whether values of sequences that were created by name were taken since the engines were opened.
    took_values: bool,
    log: Vec<String>,
}

impl Case {
    fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            random: Random(seed),
            pair: Pair::new()?,
            schema: Schema::default(),
            open: None,
            is_behind: false,
            took_values: false,
            log: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<()> {
        self.pair.open(&mut self.random, false)?;
        for _ in 0..5 {
            let statement = Statement::definition(&mut self.random, &self.schema);
            self.give(statement)?;
        }
        self.restart(End::Close)?;
        for _ in 0..4 {
            let end = match self.random.below(5) {
                0..2 => End::Close,
                2 => End::Kill,
                3 => End::KillDuring(Side::Ours),
                _ => End::KillDuring(Side::Theirs),
            };
            self.stretch(end)?;
            if self.pair.is_broken {
                return Ok(());
            }
        }
        self.pair.end(Side::Ours, false)?;
        self.pair.end(Side::Theirs, false)
    }

    /// Some statements, then an end of both engines, and both are opened again.
    fn stretch(&mut self, end: End) -> Result<()> {
        (self.is_behind, self.took_values) = (false, false);
        let count = self.random.below(160) + 10;
        for _ in 0..count {
            self.step(end)?;
            if self.pair.is_broken {
                return Ok(());
            }
        }
        match end {
            End::KillDuring(Side::Theirs) if self.is_behind => {}
            End::KillDuring(side) => return self.kill_during(side),
            _ => {}
        }
        // A transaction that a kill ends is lost.
        if let Some((before, _)) = self.open.take_if(|_| end == End::Kill) {
            self.schema = before;
            self.is_behind |= self.took_values;
        }
        if self.open.is_some() {
            self.transact("COMMIT")?;
        }
        if end == End::Close {
            self.check()?;
            match self.random.below(4) {
                0 => self.pair.command_theirs(".flush")?,
                1 => self.pair.command_theirs(".compact")?,
                _ => {}
            }
        }
        self.restart(end)
    }

    /// Kills one side in the middle of a statement that writes; it may also come before or after.
    fn kill_during(&mut self, side: Side) -> Result<()> {
        let mut statement = None;
        if self.open.is_none() || self.random.chance(50) {
            // Where all tables need sequences there may be none.
            let tries = (0..100).map(|_| Statement::random(&mut self.random, &mut self.schema, true));
            let mut tries: Vec<Statement> = tries.collect();
            tries.retain(|statement| self.can_be_lost(side, statement));
            statement = tries.pop();
        }
        if statement.is_none() && self.open.is_none() {
            return self.restart(End::Close);
        }
        self.pair.arm(side, Duration::from_micros(self.random.below(800) as u64))?;
        let lost = match statement {
            Some(statement) => self.give(statement)?,
            None => self.transact("COMMIT")?,
        };
        if self.pair.is_broken {
            return Ok(());
        }
        self.settle(side, lost.is_some())
    }

    /// Whether a kill in this statement leaves both engines with the same values of sequences to come, and Genji without
    /// namespaces that it would give out again.
    fn can_be_lost(&self, side: Side, statement: &Statement) -> bool {
        let is_calm = statement.schema.is_none() && !statement.takes_values;
        let is_write = statement.answer == Answer::Outcome;
        is_write && (is_calm || side == Side::Ours && self.schema.sequences.is_empty())
    }

    /// One statement; the side that was killed meanwhile, if one was.
    fn step(&mut self, end: End) -> Result<Option<Side>> {
        let roll = self.random.below(100);
        if self.open.is_none() && roll < 4 {
            return self.transact("BEGIN");
        }
        if self.open.is_some() && roll < 15 {
            let word = if self.random.chance(70) { "COMMIT" } else { "ROLLBACK" };
            return self.transact(word);
        }
        let statement = Statement::random(&mut self.random, &mut self.schema, self.open.is_some());
        let takes_values = statement.takes_values && !self.schema.sequences.is_empty();
        let is_wanted = match end {
            End::Close => true,
            // Few of what keeps Genji from being killed.
            End::Kill => statement.schema.is_none() || self.random.chance(10),
            End::KillDuring(_) => statement.schema.is_none() && !takes_values,
        };
        if is_wanted { self.give(statement) } else { Ok(None) }
    }

    fn give(&mut self, statement: Statement) -> Result<Option<Side>> {
        self.log.push(statement.sql.clone());
        if let Some((_, statements)) = &mut self.open {
            statements.push(statement.sql.clone());
        }
        let is_sequence = statement.takes_values && !self.schema.sequences.is_empty();
        self.took_values |= is_sequence;
        match self.pair.give(&statement.sql, statement.answer)? {
            Given::Done { succeeded: true } => {
                self.is_behind |= statement.schema.is_some();
                if let Some(schema) = statement.schema {
                    self.schema = schema;
                }
                Ok(None)
            }
            Given::Done { succeeded: false } => {
                self.is_behind |= statement.schema.is_some() || statement.takes_values;
                if self.open.is_some() && statement.fails_in_order {
                    return self.transact("ROLLBACK");
                }
                Ok(None)
            }
            Given::Broken => Ok(None),
            Given::Lost { side, survived } => {
                self.is_behind |= statement.schema.is_some() || statement.takes_values;
                if let Some(schema) = statement.schema.filter(|_| survived) {
                    self.schema = schema;
                }
                Ok(Some(side))
            }
        }
    }

    fn transact(&mut self, sql: &str) -> Result<Option<Side>> {
        self.log.push(sql.to_owned());
        if let Some((_, statements)) = &mut self.open {
            statements.push(sql.to_owned());
        }
        match self.pair.give(sql, Answer::Outcome)? {
            Given::Lost { side, .. } => return Ok(Some(side)),
            Given::Done { succeeded: true } => {}
            _ => anyhow::bail!("{sql} was refused"),
        }
        match (sql, self.open.take()) {
            ("BEGIN", _) => self.open = Some((self.schema.clone(), vec![sql.to_owned()])),
            ("ROLLBACK", Some((before, _))) => {
                self.is_behind = true;
                self.schema = before;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Ends both engines and opens them again.
    fn restart(&mut self, end: End) -> Result<()> {
        let is_killed = end != End::Close;
        let (ours, theirs) = match (is_killed, self.is_behind, self.took_values) {
            (false, ..) | (true, true, true) => (false, false),
            (true, true, false) => (true, false),
            (true, false, _) => (true, true),
        };
        self.log.push(format!("-- end: ours killed {ours}, theirs killed {theirs}"));
        self.pair.end(Side::Ours, ours)?;
        self.pair.end(Side::Theirs, theirs)?;
        self.open_again()?;
        self.check().context("after reopening")
    }

    fn open_again(&mut self) -> Result<()> {
        let swap = self.random.chance(40);
        self.log.push(format!("-- open, directories change hands: {swap}"));
        self.pair.open(&mut self.random, swap)
    }

    /// One side was killed in the middle of the last statement, or before its answer was: it holds it whole or not at all.
    fn settle(&mut self, killed: Side, is_unanswered: bool) -> Result<()> {
        let last = self.log.last().cloned().unwrap_or_default();
        self.log.push(format!("-- {killed:?} was killed in it, unanswered {is_unanswered}"));
        self.pair.end(killed, true)?;
        let pending = match self.open.take() {
            Some((_, statements)) if last == "COMMIT" => statements,
            Some((before, _)) => {
                self.schema = before;
                Vec::new()
            }
            None if is_unanswered => vec![last],
            None => Vec::new(),
        };
        match killed {
            Side::Ours => self.pair.end(Side::Theirs, !self.is_behind)?,
            Side::Theirs => self.pair.end(Side::Ours, true)?,
        }
        self.pair.open(&mut self.random, false)?;
        let queries = self.queries();
        if !pending.is_empty() && !self.pair.is_same(&queries) {
            self.log.push("-- it was lost there".to_owned());
            self.pair.replay(killed, &pending)?;
        }
        self.check().context("after a kill")
    }

    /// Everything that both must hold.
    fn queries(&self) -> Vec<String> {
        let mut queries: Vec<String> = self
            .schema
            .tables
            .iter()
            .map(|table| {
                let key = if table.key.is_empty() { "" } else { "pk(), " };
                format!("SELECT {key}* FROM {}", table.name)
            })
            .collect();
        queries.push("SELECT name, type, sql, owner, docid_sequence_name FROM __genji_catalog".to_owned());
        queries
    }

    /// Compares rows, definitions, and what is found through keys and indexes.
    fn check(&mut self) -> Result<()> {
        for query in self.queries() {
            self.pair.same(&query)?;
        }
        for table in self.schema.tables.clone() {
            let firsts: Vec<&String> = table.lookups().filter_map(|paths| paths.first()).collect();
            for (path, kind) in table.leaves().iter().filter(|(path, _)| firsts.contains(&path)) {
                for low in lowest(kind) {
                    self.pair.same(&format!("SELECT * FROM {} WHERE {path} >= {low}", table.name))?;
                }
                for _ in 0..3 {
                    if matches!(kind, Kind::Document(_)) {
                        break;
                    }
                    let value = kind.bound(&mut self.random);
                    self.pair.same(&format!("SELECT * FROM {} WHERE {path} = {value}", table.name))?;
                }
            }
        }
        Ok(())
    }
}

/// The lowest values of the types that a field can hold.
fn lowest(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::Integer => &["-9000000000000000000"],
        Kind::Double => &["-1000000.5"],
        Kind::Text => &["''"],
        Kind::Blob => &["'\\x'"],
        Kind::Bool => &["false"],
        Kind::Array => &["[NULL]"],
        Kind::Any => &["-1000000.5", "''", "false", "[NULL]"],
        Kind::Document(_) => &[],
    }
}

/// Runs cases one after the other; the first difference ends it with its seed and last statements.
fn run(first: u64, cases: u64) -> Result<()> {
    if deltamesh_testkit::reference("genjihost").is_none() {
        return Ok(());
    }
    let (start, mut statements, mut kills, mut broken) = (Instant::now(), 0, 0, 0);
    for seed in first..first + cases {
        let mut case = Case::new(seed)?;
        if let Err(error) = case.run()
            && !case.pair.is_broken
        {
            let from = if number("DELTAMESH_GENJI_LOG", 0).unwrap() > 0 {
                0
            } else {
                case.log.len().saturating_sub(40)
            };
            let last = case.log.get(from..).unwrap_or_default().join("\n");
            let kept = case.pair.keep();
            panic!("seed {seed}, directories {kept:?}, after\n{last}\n{error:#}");
        }
        statements += case.pair.statements;
        kills += case.pair.kills;
        broken += u64::from(case.pair.is_broken);
    }
    let last = first + cases - 1;
    let seconds = start.elapsed().as_secs();
    // Straight to stderr: the test harness would keep back what a passing test prints.
    writeln!(
        std::io::stderr().lock(),
        "seeds {first} to {last}: {statements} statements, {kills} kills, {broken} ended by a panic of the engine, {seconds} s"
    )?;
    Ok(())
}

#[test]
fn random_statements() -> Result<()> {
    run(number("DELTAMESH_GENJI_SEED", 1).unwrap(), number("DELTAMESH_GENJI_CASES", 3).unwrap())
}

/// A million statements, about.
#[test]
#[ignore = "takes an hour; run with --ignored"]
fn a_million_random_statements() -> Result<()> {
    run(number("DELTAMESH_GENJI_SEED", 1).unwrap(), number("DELTAMESH_GENJI_CASES", 2700).unwrap())
}
