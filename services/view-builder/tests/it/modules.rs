//! Modules from the bucket.

use deltamesh_jetstream::{Bucket, BucketName};
use deltamesh_wire::proto::module::v1::{Module, Outcome, SourceFile};
use prost::Message as _;

use crate::harness::{Harness, Row, WAIT};

async fn apply(harness: &Harness, version: u64, sql: &str) {
    apply_with(harness, version, sql, &[]).await;
}

pub(crate) async fn apply_with(harness: &Harness, version: u64, sql: &str, migrations: &[&str]) {
    let file = SourceFile { path: "views.sql".into(), text: sql.into() };
    let migration = |(index, text): (usize, &&str)| {
        let path = format!("migrations/{}_m.sql", index + 1);
        SourceFile { path, text: (*text).to_owned() }
    };
    let migrations = migrations.iter().enumerate().map(migration).collect();
    let module = Module { name: "chat".into(), version, sql: vec![file], migrations, ..Module::default() };
    let bucket = Bucket::open(&harness.client, BucketName::Modules).await.unwrap();
    bucket.put("chat", module.encode_to_vec()).await.unwrap();
}

/// Waits for the outcome of a version: what was wrong, or nothing.
pub(crate) async fn outcome(harness: &Harness, version: u64, accepted: bool) -> String {
    let bucket = Bucket::open(&harness.client, BucketName::ModuleStatus).await.unwrap();
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        if let Some(value) = bucket.get("chat.view-builder.main").await.unwrap() {
            let outcome = Outcome::decode(value).unwrap();
            if outcome.version == version && outcome.accepted == accepted {
                return outcome.error;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "no outcome of version {version}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_applied_all_or_nothing() {
    let mut harness = Harness::new().await;
    harness.start();
    let view =
        |name: &str, rest: &str| format!("CREATE MATERIALIZED VIEW {name} AS SELECT id, body FROM {rest};\n");
    apply(&harness, 1, &view("all_messages", "message")).await;
    let refusal = outcome(&harness, 1, false).await;
    assert!(refusal.starts_with("views.sql:1:") && refusal.contains("message"), "{refusal}");
    assert!(harness.faults().await.starts_with("module chat: "));
    // The relation appears.
    harness.publish(true, &[Row::Put(1, 7, "a"), Row::Put(2, 8, "b")]).await;
    outcome(&harness, 1, true).await;
    harness.wait_rows("SELECT * FROM all_messages ORDER BY id", "[1,\"a\"]\n[2,\"b\"]").await;
    let two = view("some_messages", "message WHERE chat = 7") + &view("bad", "nothing");
    apply(&harness, 2, &two).await;
    let refusal = outcome(&harness, 2, false).await;
    assert!(refusal.starts_with("views.sql:2:") && refusal.contains("nothing"), "{refusal}");
    assert_eq!(harness.rows("SELECT name FROM __deltamesh_views").await.unwrap(), "[\"all_messages\"]");
    apply(&harness, 3, &view("some_messages", "message WHERE chat = 7")).await;
    outcome(&harness, 3, true).await;
    assert_eq!(harness.rows("SELECT name FROM __deltamesh_views").await.unwrap(), "[\"some_messages\"]");
    assert_eq!(harness.faults().await, "");
    let bucket = Bucket::open(&harness.client, BucketName::Modules).await.unwrap();
    bucket.delete("chat").await.unwrap();
    harness.wait_rows("SELECT name FROM __deltamesh_views", "").await;
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_applied_beside_the_flow() {
    check_migrations(Harness::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_applied_in_postgres() {
    check_migrations(Harness::on_postgres().await).await;
}

async fn check_migrations(mut harness: Harness) {
    const NOTED: &str = "CREATE TABLE noted (id INTEGER);\nINSERT INTO noted SELECT id FROM app__message;";
    const BROKEN: &str = "CREATE INDEX by_chat ON app__message (chat);\nDELETE FROM app__message;";
    const MENDED: &str = "CREATE INDEX by_chat ON app__message (chat);\nINSERT INTO noted VALUES (9);";
    harness.start();
    let views = "CREATE MATERIALIZED VIEW bodies AS SELECT id, body FROM message";
    // Before the relation is there.
    apply_with(&harness, 1, views, &[NOTED]).await;
    outcome(&harness, 1, false).await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    outcome(&harness, 1, true).await;
    harness.publish(false, &[Row::Put(2, 7, "b")]).await;
    apply_with(&harness, 2, views, &[NOTED, BROKEN]).await;
    let refusal = outcome(&harness, 2, false).await;
    assert!(refusal.starts_with("migrations/2_m.sql:2:1: app__message is named like a mirror"), "{refusal}");
    assert!(harness.faults().await.starts_with("module chat: "));
    apply_with(&harness, 3, views, &[NOTED, MENDED]).await;
    outcome(&harness, 3, true).await;
    harness.stop().await;
    harness.start();
    apply_with(&harness, 4, views, &[NOTED, MENDED, "INSERT INTO noted VALUES (10)"]).await;
    outcome(&harness, 4, true).await;
    harness.wait_rows("SELECT id FROM noted ORDER BY id", "[1]\n[9]\n[10]").await;
    harness.wait_rows("SELECT count(*) FROM bodies", "[2]").await;
    harness
        .wait_rows("SELECT module, max(number) FROM __deltamesh_migrations GROUP BY 1", r#"["chat",3]"#)
        .await;
    assert_eq!(harness.faults().await, "");
    harness.stop().await;
}
