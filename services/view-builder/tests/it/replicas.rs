//! Several services on the same streams, on both kinds of replica: late ones begin with a snapshot, and all are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use deltamesh_jetstream::Requests;
use deltamesh_testkit::{Random, number};

use crate::harness::{Harness, Process, Row, WAIT};
use crate::killed::{MESSAGES, Source, fed, lines, transaction};

/// Names of replicas, whether they are in PostgreSQL, and how the names of their views begin: the third has those of the first.
const REPLICAS: [(&str, bool, &str); 4] =
    [("a", false, "of"), ("b", true, "b"), ("c", true, "of"), ("d", false, "d")];

const VIEWS: [(&str, &str); 3] = [
    ("counts", "SELECT chat, count(*) AS messages, max(body) AS last FROM message GROUP BY chat"),
    ("copies", "SELECT id, body FROM message"),
    (
        "newest",
        "SELECT chat, id FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id DESC) <= 2",
    ),
];

const ROWS: i64 = 300;

/// What runs, and what the source holds.
struct Course {
    harness: Harness,
    reconciles: Requests,
    random: Random,
    source: Source,
    services: BTreeMap<&'static str, Process>,
    /// Those that were asked for.
    snapshots: usize,
}

impl Course {
    async fn start() -> Self {
        let mut harness = Harness::on_postgres().await;
        let reconciles = Requests::subscribe(&harness.client, "source.app.reconcile", None).await.unwrap();
        let source: Source = (0..ROWS).map(|id| (id, (id % 7, "a"))).collect();
        harness.publish(true, &rows(&source)).await;
        let random = Random(number("DELTAMESH_SEED", 11).unwrap());
        Self { harness, reconciles, random, source, services: BTreeMap::new(), snapshots: 0 }
    }

    /// Starts a service, in place of the one that there is.
    fn spawn(&mut self, (name, on_postgres, _): (&'static str, bool, &str)) {
        if let Some(mut former) = self.services.remove(name) {
            former.kill();
        }
        self.services.insert(name, self.harness.spawn_replica(name, on_postgres));
    }

    /// A transaction; and a snapshot of what there is for who asked.
    async fn go_on(&mut self) {
        let rows_of = transaction(&mut self.random, &mut self.source, ROWS);
        self.harness.publish(false, &rows_of).await;
        let asked = tokio::time::timeout(Duration::from_millis(20), self.reconciles.next()).await;
        if let Ok(Some(request)) = asked {
            request.reply("").await.unwrap();
            self.harness.publish(true, &rows(&self.source)).await;
            self.snapshots += 1;
        }
    }

    /// Goes on until a replica has the relation, then has its views made.
    async fn create_views(&mut self, (name, _, prefix): (&'static str, bool, &str)) {
        self.harness.replica = name;
        let deadline = tokio::time::Instant::now() + WAIT * 3;
        while self.harness.rows("SELECT count(*) FROM app__message").await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "{name} has no relation");
            self.go_on().await;
        }
        let views = VIEWS.map(|(view, sql)| format!("CREATE MATERIALIZED VIEW {prefix}_{view} AS {sql};"));
        self.harness.ask("view.create", &views.concat()).await.unwrap();
    }

    /// Every view equals its SQL, and a subscriber to everything has its rows.
    async fn check(&mut self, (name, _, prefix): (&'static str, bool, &str)) {
        self.harness.replica = name;
        self.harness.wait_rows_for(MESSAGES, &lines(&self.source), WAIT * 3).await;
        let verified = self.harness.ask("verify", "").await.unwrap();
        assert_eq!(verified.matches("\"missing\":0,\"extra\":0").count(), VIEWS.len(), "{name}: {verified}");
        let kept = VIEWS.map(|(view, _)| format!("SELECT 1 FROM {prefix}_{view}"));
        let kept = self.harness.rows(&kept.join(" UNION ALL ")).await.unwrap();
        assert_eq!(fed(&self.harness).await.len(), kept.lines().count(), "{name}");
    }
}

fn rows(source: &Source) -> Vec<Row> {
    source.iter().map(|(id, (chat, body))| Row::Put(*id, *chat, body)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_both_kinds_follow_the_same_streams() {
    let mut course = Course::start().await;
    for replica in &REPLICAS[..2] {
        course.spawn(*replica);
        course.create_views(*replica).await;
    }
    for _ in 0..10 {
        course.go_on().await;
    }
    // What happened before is in no stream any more.
    let purge = "$JS.API.STREAM.PURGE.CHANGES_APP";
    course.harness.client.request(purge, r#"{"keep":1}"#, WAIT).await.unwrap();
    for replica in &REPLICAS[2..] {
        course.spawn(*replica);
    }
    for turn in 0..number("DELTAMESH_KILLS", 8).unwrap() {
        // Late ones while they begin, too.
        let victim = if turn < 3 {
            REPLICAS[2 + course.random.below(2_usize)]
        } else {
            *course.random.pick(&REPLICAS)
        };
        for _ in 0..course.random.below(8) {
            course.go_on().await;
        }
        course.spawn(victim);
        if turn == 2 {
            course.create_views(REPLICAS[2]).await;
            course.create_views(REPLICAS[3]).await;
        }
    }
    for _ in 0..5 {
        course.go_on().await;
    }
    assert!(course.snapshots > 0, "the log does not reach back");
    for replica in REPLICAS {
        course.check(replica).await;
    }
    for service in course.services.values_mut() {
        service.kill();
    }
}
