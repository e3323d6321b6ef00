//! Clients with random sessions, and a host that is killed: what was acknowledged is there whole, what was rolled back is not.
//!
//! `DELTAMESH_SESSION_SECONDS` says for how long (default 4), `DELTAMESH_SESSION_SEED` which course.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::{Client, Code, ServiceError};
use deltamesh_testkit::{GenjiHost, Random, number};

use crate::program::Program;
use crate::sql::Sql;
use crate::{Mirror, read_until, start};

const CLIENTS: u64 = 6;
/// Sessions that a client leaves behind do not hold up the others for long.
const ARGUMENTS: [&str; 2] = ["--session-idle", "250ms"];

/// Sessions by the name that their rows have.
type Fates = BTreeMap<String, Fate>;

struct Fate {
    is_committed: bool,
    rows: usize,
}

struct Caller {
    sql: Sql,
    random: Random,
    name: u64,
    sessions: u64,
    fates: Fates,
    /// Commits that were asked for more than once.
    asked_again: usize,
}

impl Caller {
    async fn run(mut self, is_over: Arc<AtomicBool>) -> Self {
        while !is_over.load(Ordering::Relaxed) {
            self.sessions += 1;
            let label = format!("{}-{}", self.name, self.sessions);
            let fate = if self.random.below(4) == 0 {
                self.statement(&label).await
            } else {
                self.session(&label).await
            };
            // A statement whose answer is lost may have been run or not.
            if let Some(fate) = fate {
                self.fates.insert(label, fate);
            }
        }
        self
    }

    /// A statement by itself, of several rows.
    async fn statement(&mut self, label: &str) -> Option<Fate> {
        let rows = self.rows();
        match self.sql.try_run("", &insert(label, 0, rows)).await {
            Ok(answer) => Some(Fate { is_committed: answer.rows == rows as u64, rows }),
            Err(error) if is_lost(&error) => None,
            Err(_refused) => Some(Fate { is_committed: false, rows }),
        }
    }

    async fn session(&mut self, label: &str) -> Option<Fate> {
        let not = |rows| Some(Fate { is_committed: false, rows });
        let Ok(begun) = self.sql.try_run("", "BEGIN").await else { return not(0) };
        let session = begun.session;
        let mut rows = 0;
        for _ in 0..self.rows() {
            let more = self.rows();
            if self.sql.try_run(&session, &insert(label, rows, more)).await.is_err() {
                return not(rows);
            }
            rows += more;
        }
        match self.random.below(8) {
            // Forgets it.
            0 => return not(rows),
            1 => {
                self.sql.insist(&session, "ROLLBACK").await.expect("rolled back, whatever happened");
                return not(rows);
            }
            _ => {}
        }
        let is_committed = match self.sql.try_run(&session, "COMMIT").await {
            Ok(_) => true,
            Err(error) if is_lost(&error) => {
                self.asked_again += 1;
                self.learn(&session).await
            }
            Err(error) => {
                assert_eq!(error.code, Code::Aborted, "{error}");
                false
            }
        };
        // It stays what it is.
        assert_eq!(self.learn(&session).await, is_committed);
        Some(Fate { is_committed, rows })
    }

    async fn learn(&self, session: &str) -> bool {
        match self.sql.insist(session, "COMMIT").await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.code, Code::Aborted, "{error}");
                false
            }
        }
    }

    fn rows(&mut self) -> usize {
        usize::try_from(1 + self.random.below(4)).expect("small")
    }
}

/// Whether the request may have been run, or may yet be.
fn is_lost(error: &ServiceError) -> bool {
    matches!(error.code, Code::Unavailable | Code::DeadlineExceeded)
}

fn insert(label: &str, first: usize, rows: usize) -> String {
    let rows: Vec<_> = (first..first + rows).map(|part| format!("('{label}', {part})")).collect();
    format!("INSERT INTO t (session, part) VALUES {}", rows.join(", "))
}

/// Runs the clients while the host is killed again and again; returns what they know, and the number of kills.
async fn load(client: &Client, seed: u64, mut restart: impl FnMut()) -> (Vec<Caller>, usize) {
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (1..=CLIENTS)
        .map(|name| {
            let caller = Caller {
                sql: Sql::new(client),
                random: Random(seed.wrapping_mul(1000) + name),
                name,
                sessions: 0,
                fates: Fates::new(),
                asked_again: 0,
            };
            tokio::spawn(caller.run(is_over.clone()))
        })
        .collect();
    let until =
        Instant::now() + Duration::from_secs(number("DELTAMESH_SESSION_SECONDS", 4).expect("seconds"));
    let mut random = Random(seed);
    let mut kills = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200 + random.below(800_u64))).await;
        restart();
        kills += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut done = vec![];
    for caller in callers {
        done.push(caller.await.expect("caller"));
    }
    (done, kills)
}

// Figures are for who runs it longer.
#[allow(clippy::print_stdout)]
#[tokio::test(flavor = "multi_thread")]
async fn commits_are_whole_and_rollbacks_leave_nothing() {
    let seed = number("DELTAMESH_SESSION_SEED", 1).expect("seed");
    let (nats, client, dir) = start().await;
    let path = dir.path().join("db");
    let host = || Program::start_with(&nats.url(), &path, Mode::Host, &ARGUMENTS);
    let mut program = host();
    let table = "CREATE TABLE t (session TEXT, part INTEGER, PRIMARY KEY (session, part))";
    Sql::new(&client).insist("", table).await.expect("table");
    let (callers, kills) = load(&client, seed, || {
        program.kill();
        program = host();
    })
    .await;
    // A statement whose answer was lost is not among them.
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    let mut denied = vec![];
    for (label, fate) in callers.iter().flat_map(|caller| &caller.fates) {
        if fate.is_committed {
            expected.insert(label.clone(), fate.rows);
        } else {
            denied.push(label.clone());
        }
    }
    let asked_again: usize = callers.iter().map(|caller| caller.asked_again).sum();
    println!(
        "seed {seed}: {} committed, {} not, {asked_again} commits asked for again, {kills} kills",
        expected.len(),
        denied.len()
    );
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for row in Sql::new(&client).rows("", "SELECT session FROM t").await {
        let row: serde_json::Value = serde_json::from_str(&row).expect("json");
        *found.entry(row["session"].as_str().expect("text").to_owned()).or_default() += 1;
        count += 1;
    }
    for (label, rows) in &expected {
        assert_eq!(found.get(label), Some(rows), "seed {seed}: session {label} was committed");
    }
    for label in &denied {
        assert_eq!(found.get(label), None, "seed {seed}: session {label} was not committed");
    }
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.rows("t") == count).await;
    assert!(program.terminate().success());
    if let Some(mut engine) = GenjiHost::start(&path).expect("engine") {
        assert_eq!(engine.query("SELECT session, part FROM t").expect("query").len(), count);
    }
}
