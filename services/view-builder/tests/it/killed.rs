//! A view-builder and its PostgreSQL killed at random moments while changes flow.
//!
//! `DELTAMESH_KILLS` asks for so many of them.

use std::collections::BTreeMap;
use std::time::Duration;

use deltamesh_jetstream::gather_status;
use deltamesh_testkit::{Random, number};

use crate::harness::{Harness, Process, Row, WAIT};

const VIEWS: &str = "
CREATE MATERIALIZED VIEW counts AS SELECT chat, count(*) AS messages, max(body) AS last FROM message GROUP BY chat;
CREATE MATERIALIZED VIEW bodies AS SELECT DISTINCT body FROM message WHERE chat > 1;
CREATE MATERIALIZED VIEW newest AS SELECT chat, id, body FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id DESC) <= 2;
CREATE MATERIALIZED VIEW pairs AS SELECT a.id AS a, b.id AS b FROM message a JOIN message b ON b.chat = a.chat AND b.body = a.body AND a.id < b.id;";

pub(crate) const MESSAGES: &str = "SELECT id, chat, body FROM app__message ORDER BY id";

/// What the source holds.
pub(crate) type Source = BTreeMap<i64, (i64, &'static str)>;

/// A transaction of a few of so many rows.
pub(crate) fn transaction(random: &mut Random, source: &mut Source, rows: i64) -> Vec<Row> {
    let row = |_| {
        let id = random.below(rows);
        if random.chance(25) {
            source.remove(&id);
            return Row::Delete(id);
        }
        let (chat, body) = (random.below(6), *random.pick(&["a", "b", "c", ""]));
        source.insert(id, (chat, body));
        Row::Put(id, chat, body)
    };
    (0..6).map(row).collect()
}

/// What [`MESSAGES`] gives where the replica has the same.
pub(crate) fn lines(source: &Source) -> String {
    let rows = source.iter().map(|(id, (chat, body))| format!("[{id},{chat},\"{body}\"]"));
    rows.collect::<Vec<_>>().join("\n")
}

/// The rows that a subscriber has who was there from the beginning, by their subjects.
pub(crate) fn replayed(feed: &str) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for line in feed.lines() {
        let mut words = line.splitn(4, ' ').skip(1);
        let [subject, operation, row] = [(); 3].map(|()| words.next().unwrap().to_owned());
        let row = row.trim_end_matches(" !").to_owned();
        let known = match operation.as_str() {
            "delete" => rows.remove(&subject),
            _ => rows.insert(subject, row),
        };
        assert_eq!(known.is_none(), operation == "insert", "{line}: known {known:?}");
    }
    rows
}

/// The rows of a subscriber once everything is published.
pub(crate) async fn fed(harness: &Harness) -> BTreeMap<String, String> {
    let last = harness.rows("SELECT count(*), max(seq) FROM __deltamesh_changes").await.unwrap();
    let (count, last) = last.trim_matches(['[', ']']).split_once(',').unwrap();
    assert_eq!(count, last, "numbers without a gap");
    replayed(&harness.feed(last.parse().unwrap()).await)
}

/// Waits until the service answers. One that cannot open its replica ends, and is started again as by a supervisor.
async fn supervise(harness: &Harness, service: &mut Process) {
    while harness.rows("SELECT 1").await.is_err() {
        if service.has_ended() {
            *service = harness.spawn();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the status says of the replica, once it says something or nothing any more.
async fn wait_fault(harness: &Harness, is_expected: impl Fn(Option<&str>) -> bool) {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let statuses = gather_status(&harness.client, Duration::from_millis(100)).await.unwrap();
        let mut faults = statuses.iter().flat_map(|status| &status.faults);
        let fault = faults.find(|fault| fault.part == "replica").map(|fault| fault.reason.as_str());
        if !statuses.is_empty() && is_expected(fault) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for() {
    let mut harness = Harness::on_postgres().await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.postgres.as_mut().unwrap().kill().unwrap();
    harness.start();
    wait_fault(&harness, |fault| fault.is_some()).await;
    harness.postgres.as_mut().unwrap().restart().unwrap();
    harness.wait_rows(MESSAGES, "[1,7,\"a\"]").await;
    wait_fault(&harness, |fault| fault.is_none()).await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_applied_twice() {
    let mut random = Random(number("DELTAMESH_SEED", 7).unwrap());
    let mut harness = Harness::on_postgres().await;
    let mut source = Source::new();
    harness.publish(true, &[]).await;
    let mut service = harness.spawn();
    harness.wait_rows("SELECT count(*) FROM app__message", "[0]").await;
    harness.ask("view.create", VIEWS).await.unwrap();
    for _ in 0..number("DELTAMESH_KILLS", 6).unwrap() {
        for _ in 0..20 {
            let rows = transaction(&mut random, &mut source, 40);
            harness.publish(false, &rows).await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        if random.chance(40) {
            harness.postgres.as_mut().unwrap().restart().unwrap();
            supervise(&harness, &mut service).await;
        } else {
            service.kill();
            service = harness.spawn();
        }
    }
    harness.wait_rows(MESSAGES, &lines(&source)).await;
    let verified = harness.ask("verify", "").await.unwrap();
    assert_eq!(verified.matches("\"missing\":0,\"extra\":0").count(), 4, "{verified}");
    let fed = fed(&harness).await;
    let kept =
        ["counts", "bodies", "newest", "pairs"].map(|view| format!("SELECT '{view}' AS view FROM {view}"));
    let kept = harness.rows(&kept.join(" UNION ALL ")).await.unwrap();
    assert_eq!(fed.len(), kept.lines().count());
    let expected: BTreeMap<i64, usize> = source.values().fold(BTreeMap::new(), |mut chats, (chat, _)| {
        *chats.entry(*chat).or_default() += 1;
        chats
    });
    for (chat, messages) in expected {
        let row = &fed[&format!("feed.counts.{chat}")];
        assert!(row.contains(&format!("\"messages\":{messages},")), "chat {chat}: {row}");
    }
    service.kill();
}
