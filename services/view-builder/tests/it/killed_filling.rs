//! A view-builder killed while it fills views, replaces them and applies migrations, and changes flow.
//!
//! `DELTAMESH_ROUNDS` asks for so many rounds of the long run, `DELTAMESH_SEED` begins with another course.

use std::time::Duration;

use deltamesh_testkit::{Random, number};

use crate::harness::{Harness, Process, Row, WAIT};
use crate::killed::{MESSAGES, Source, fed, lines, transaction};
use crate::modules::{apply_with, outcome};

/// One of each way to be filled: by changed rows, by whole groups, read from the mirror, over another view, as a whole.
const VIEWS: [(&str, &str); 8] = [
    ("counts", "SELECT chat, count(*) AS messages, max(body) AS last FROM message GROUP BY chat"),
    ("copies", "SELECT id, body FROM message"),
    (
        "newest",
        "SELECT chat, id, body FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id DESC) <= 2",
    ),
    ("former", "SELECT id, lag(body) OVER (PARTITION BY chat ORDER BY id) AS body FROM message"),
    ("next", "SELECT a.id, b.id AS next FROM message a LEFT JOIN message b ON b.id = a.id + 1"),
    ("bodies", "SELECT DISTINCT body, chat % 7 AS rest FROM message WHERE chat > 1"),
    ("sizes", "SELECT messages, count(*) AS chats FROM counts GROUP BY messages"),
    ("ranks", "SELECT chat, row_number() OVER (ORDER BY messages DESC) AS place FROM counts"),
];

/// What replaces some of them: with the same columns under a view over it, with others, read from the mirror.
const NEXT: [(&str, &str); 4] = [
    (
        "counts",
        "SELECT chat, count(*) AS messages, min(body) AS last FROM message WHERE id > 9 GROUP BY chat",
    ),
    ("copies", "SELECT id, chat FROM message"),
    (
        "newest",
        "SELECT chat, id, body FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id) <= 2",
    ),
    ("bodies", "SELECT DISTINCT body, chat % 3 AS three FROM message"),
];

const ROWS: i64 = 2_000;

/// Besides the first.
const MIGRATIONS: i64 = 4;

fn migrations() -> Vec<String> {
    let first = "CREATE TABLE noted (id INTEGER);".to_owned();
    let further = (1..=MIGRATIONS).map(|number| {
        format!(
            "INSERT INTO noted VALUES ({number});
             CREATE INDEX by_{number} ON app__message (body, chat);
             CREATE VIEW plain_{number} AS SELECT chat FROM counts;
             CREATE MATERIALIZED VIEW own_{number} AS SELECT id, chat FROM message WHERE chat <> {number};
             INSERT INTO noted SELECT 100 + max(id) FROM noted WHERE id < 100;"
        )
    });
    std::iter::once(first).chain(further).collect()
}

/// Kills it so many times, each time after a random while.
async fn disturb(harness: &mut Harness, random: &mut Random, source: &mut Source, kills: u64) -> Process {
    let mut service = harness.spawn();
    // A file is filled in about that time.
    let most = if harness.postgres.is_some() { 700 } else { 300 };
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.below(most))).await;
        for _ in 0..3 {
            let rows = transaction(random, source, ROWS);
            harness.publish(false, &rows).await;
        }
        service.kill();
        service = harness.spawn();
    }
    service
}

async fn check(mut harness: Harness, seed: u64, kills: u64) {
    let mut random = Random(seed);
    let mut source: Source = (0..ROWS).map(|id| (id, (id % 40, "a"))).collect();
    let rows: Vec<Row> = source.iter().map(|(id, (chat, body))| Row::Put(*id, *chat, body)).collect();
    harness.publish(true, &rows).await;
    let create = |(name, sql): (&str, &str)| format!("CREATE MATERIALIZED VIEW {name} AS {sql};\n");
    let next =
        |view: (&'static str, &'static str)| *NEXT.iter().find(|next| next.0 == view.0).unwrap_or(&view);
    let (views, replaced) = (VIEWS.map(create), VIEWS.map(next).map(create));
    let migrations = migrations();
    let migrations: Vec<&str> = migrations.iter().map(String::as_str).collect();
    // The mirror is there before the views: they are filled beside the flow.
    let mut service = harness.spawn();
    harness.wait_rows("SELECT count(*) FROM app__message", &format!("[{ROWS}]")).await;
    service.kill();
    apply_with(&harness, 1, &views.concat(), &migrations).await;
    drop(disturb(&mut harness, &mut random, &mut source, kills.div_ceil(2)).await);
    apply_with(&harness, 2, &replaced.concat(), &migrations).await;
    let mut service = disturb(&mut harness, &mut random, &mut source, kills.div_ceil(2)).await;

    outcome(&harness, 2, true).await;
    harness
        .wait_rows_for("SELECT name, fault FROM __deltamesh_views WHERE fault IS NOT NULL", "", WAIT * 4)
        .await;
    harness.wait_rows(MESSAGES, &lines(&source)).await;
    let verified = harness.ask("verify", "").await.unwrap();
    assert_eq!(
        verified.matches("\"missing\":0,\"extra\":0").count(),
        VIEWS.len() + 4,
        "seed {seed}: {verified}"
    );
    let noted = (1..=MIGRATIONS).flat_map(|number| [number, 100 + number]).map(|id| format!("[{id}]"));
    let mut noted: Vec<String> = noted.collect();
    noted.sort_by_key(String::len);
    harness.wait_rows("SELECT id FROM noted ORDER BY id", &noted.join("\n")).await;
    harness.wait_rows("SELECT count(*), max(number) FROM __deltamesh_migrations", "[5,5]").await;
    let own = (1..=MIGRATIONS).map(|number| format!("own_{number}"));
    let names = VIEWS.iter().map(|(name, _)| (*name).to_owned()).chain(own);
    let kept = names.map(|view| format!("SELECT '{view}' AS view FROM {view}")).collect::<Vec<_>>();
    let kept = harness.rows(&kept.join(" UNION ALL ")).await.unwrap();
    assert_eq!(fed(&harness).await.len(), kept.lines().count(), "seed {seed}");
    service.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_and_migrating_go_on() {
    check(Harness::new().await, number("DELTAMESH_SEED", 3).unwrap(), 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_and_migrating_go_on_in_postgres() {
    check(Harness::on_postgres().await, number("DELTAMESH_SEED", 4).unwrap(), 5).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten seconds a round"]
async fn filling_and_migrating_go_on_for_long() {
    let first = number("DELTAMESH_SEED", 100).unwrap();
    for seed in first..first + number("DELTAMESH_ROUNDS", 20).unwrap() {
        let harness = if seed % 2 == 0 { Harness::new().await } else { Harness::on_postgres().await };
        check(harness, seed, 12).await;
    }
}
