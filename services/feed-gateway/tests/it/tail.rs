//! Cursors through the query methods.

use deltamesh_feed_gateway::replica::Replica;
use serde_json::{Value as Json, json};

use crate::browser::{EventSource, json, request};
use crate::world::{World, within};

/// The answer of a query; a cursor is its parameter `?1`.
async fn query(world: &World, sql: &str, cursor: &str) -> Json {
    let parameters = Vec::from_iter((!cursor.is_empty()).then_some(cursor));
    let body = json!({ "sql": sql, "parameters": parameters }).to_string();
    json(world, "POST", "/v1/query", &body).await
}

/// The text of a new cursor.
async fn declare(world: &World, tail: &str, from: &str) -> String {
    let answer = query(world, &format!("DECLARE c CURSOR FOR TAIL {tail}"), from).await;
    assert_eq!((&answer["columns"], &answer["rows"][0][0]), (&json!(["name", "cursor"]), &json!("c")));
    answer["rows"][0][1].as_str().unwrap().to_owned()
}

/// What a FETCH gives: `op row`, or `op reason` for a mark; moves the cursor behind it.
async fn fetch(world: &World, sql: &str, cursor: &mut String) -> Vec<String> {
    let answer = query(world, sql, cursor).await;
    let rows = answer["rows"].as_array().unwrap();
    *cursor = rows.last().unwrap()[7].as_str().unwrap().to_owned();
    let short = |row: &Json| {
        let rest = if row[2].is_null() { &row[6] } else { &row[2] };
        format!("{} {rest}", row[0].as_str().unwrap())
    };
    rows.iter().map(short).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_gives_every_change_in_order() {
    let mut world = World::start().await;
    world.items().await;
    world.put(1, "a", "x").await;
    let mut cursor = declare(&world, "items", "").await;
    let snapshot = ["snapshot_begin null", r#"read {"id":1,"room":"a","text":"x"}"#, "snapshot_end null"];
    assert_eq!(fetch(&world, "FETCH 1 FROM ?1", &mut cursor).await, snapshot);
    for text in ["y", "z"] {
        world.put(1, "a", text).await;
    }
    world.delete(1).await;
    let two = [r#"update {"id":1,"room":"a","text":"y"}"#, r#"update {"id":1,"room":"a","text":"z"}"#];
    assert_eq!(fetch(&world, "FETCH 2 FROM ?1", &mut cursor).await, two);
    let answer = query(&world, "FETCH ALL FROM ?1", &cursor).await;
    let columns = ["op", "key", "row", "before", "position", "transaction_end", "reason", "cursor"];
    assert_eq!(answer["columns"], json!(columns));
    let last = answer["rows"][0].as_array().unwrap();
    let row = json!({"id": 1, "room": "a", "text": "z"});
    assert_eq!(last[..4], [json!("delete"), json!([1]), row, Json::Null]);
    assert!(last[4].as_str().unwrap().starts_with("app=i1/") && last[5] == true, "{last:?}");
    // Any transport goes on behind it, and it goes on behind any transport's.
    let path = format!("/v1/feeds/items?cursor={}", last[7].as_str().unwrap());
    let mut source = EventSource::open(&world, &path, None).await;
    let caught_up = source.progress().await.id.unwrap();
    world.put(2, "a", "two").await;
    let mut cursor = declare(&world, "items FROM ?1", &caught_up).await;
    let two = [r#"insert {"id":2,"room":"a","text":"two"}"#];
    assert_eq!(fetch(&world, "FETCH ALL FROM ?1", &mut cursor).await, two);
    assert_eq!(fetch(&world, "FETCH ALL FROM ?1", &mut cursor).await, ["progress null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_its_first_change() {
    let mut world = World::start().await;
    world.items().await;
    world.put(1, "b", "x").await;
    let mut cursor = declare(&world, "items AS OF NOW WHERE room = 'a'", "").await;
    let fetching = fetch(&world, "FETCH 10 FROM ?1 WITH (timeout = '30s')", &mut cursor);
    let writing = async {
        world.put(2, "b", "not asked for").await;
        world.put(1, "a", "x").await;
    };
    let (seen, ()) = within(async { tokio::join!(fetching, writing) }).await;
    assert_eq!(seen, [r#"insert {"id":1,"room":"a","text":"x"}"#]);
    assert_eq!(fetch(&world, "FETCH FROM ?1 WITH (timeout = '10ms')", &mut cursor).await, ["progress null"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_lives_as_long_as_its_request() {
    let mut world = World::start().await;
    world.items().await;
    for id in 1..=3 {
        world.put(id, "a", "x").await;
    }
    let script = "DECLARE c CURSOR FOR TAIL items AS OF 0; FETCH 1 FROM c; FETCH 1 FROM c; CLOSE c";
    let answer = query(&world, script, "").await;
    let keys: Vec<&Json> = answer["rows"].as_array().unwrap().iter().map(|row| &row[1][0]).collect();
    assert_eq!(keys, [1, 2]);
    let refused = async |sql: &str, status: u16, reason: &str| {
        let (code, text) = request(&world, "POST", "/v1/query", &json!({ "sql": sql }).to_string()).await;
        assert!(code == status && text.contains(reason), "{sql}: {code} {text}");
    };
    refused("FETCH 1 FROM c", 400, "cursor c is not declared in this request").await;
    refused("FETCH 1 FROM 'x'", 400, "cursor is not one that was given out").await;
    refused("DECLARE c CURSOR FOR TAIL nothing", 404, "view nothing does not exist").await;
    refused("DECLARE c CURSOR FOR TAIL items WHERE nothing = 1", 400, "view has no column nothing").await;
    refused("DECLARE c CURSOR FOR TAIL items AS OF 99", 400, "feed position 99: cursor is ahead").await;
    refused("TAIL items", 400, "DECLARE name CURSOR FOR TAIL view").await;
    let log = "SELECT seq, op, json_extract(row, '$.id') FROM __deltamesh_changes WHERE view = 'items' ORDER BY seq";
    let rows = json!([[1, "insert", 1], [2, "insert", 2], [3, "insert", 3]]);
    assert_eq!(query(&world, log, "").await["rows"], rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_retention_a_snapshot_says_so() {
    let mut world = World::keeping("2".parse().unwrap()).await;
    world.items().await;
    world.put(1, "a", "0").await;
    let mut cursor = declare(&world, "items AS OF NOW", "").await;
    for text in ["1", "2", "3", "4", "5"] {
        world.put(1, "a", text).await;
    }
    let snapshot = [
        r#"snapshot_begin "cursor is past retention""#,
        r#"read {"id":1,"room":"a","text":"5"}"#,
        "snapshot_end null",
    ];
    assert_eq!(fetch(&world, "FETCH 1 FROM ?1", &mut cursor).await, snapshot);
    world.put(1, "a", "6").await;
    let next = [r#"update {"id":1,"room":"a","text":"6"}"#];
    assert_eq!(fetch(&world, "FETCH 1 FROM ?1", &mut cursor).await, next);
    let early = json!({ "sql": "DECLARE c CURSOR FOR TAIL items AS OF 1" }).to_string();
    let (code, text) = request(&world, "POST", "/v1/query", &early).await;
    assert!(code == 400 && text.contains("feed position 1: cursor is past retention"), "{text}");
    let last = Replica::new(&world.path).position().await.unwrap().last;
    declare(&world, &format!("items AS OF {last}"), "").await;
}
