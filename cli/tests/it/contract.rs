//! The command line as scripts know it.

use serde_json::{Value, json};

use crate::mesh::{Mesh, eventually};
use crate::subscriber::Subscriber;

const VIEW: &str = "CREATE MATERIALIZED VIEW per_chat WITH (subject = 'chat_id') AS \
                    SELECT chat_id, COUNT(*) AS messages FROM chat_message GROUP BY chat_id";

#[test]
fn a_mesh_from_up_to_drain() {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("app=genji:{}?mode=host", dir.path().join("db").display());
    let module = deltamesh_testkit::workspace_root().join("modules/chat");
    let module = module.to_str().unwrap();
    let mesh = Mesh::start(dir.path(), &["--source", &source, "--module", module, "--nid", "n1"]);
    let replica = format!("sqlite:{}", dir.path().canonicalize().unwrap().join("state/replica.db").display());
    assert_eq!(mesh.ready["ready"], true);
    assert_eq!(mesh.ready["nid"], "n1");
    assert_eq!(mesh.ready["replica"], replica);
    assert_eq!(mesh.ready["sources"], json!(["app"]));
    assert!(mesh.ready["nats"].as_str().unwrap().starts_with("nats://127.0.0.1:"));
    assert!(mesh.ready["http"].as_str().unwrap().starts_with("http://127.0.0.1:"));

    views(&mesh);
    modules(&mesh, module);
    let status: Value = serde_json::from_str(&mesh.say(&["status", "--json"])).unwrap();
    assert_eq!(status["faults"], json!([]));
    let hops = status["hops"].as_array().unwrap();
    assert!(hops.iter().all(|hop| hop["position"].is_string() && hop["lag"].is_u64()), "{status}");
    assert!(mesh.say(&["status"]).starts_with("SERVICE"));
    assert_eq!(mesh.stop().code(), Some(0));
}

fn views(mesh: &Mesh) {
    mesh.say(&["view", "create", VIEW]);
    assert!(mesh.say(&["view", "list"]).contains("per_chat"));
    assert!(!mesh.say(&["view", "explain", "per_chat"]).is_empty());
    assert_eq!(mesh.rows("SELECT * FROM per_chat"), Vec::<Value>::new());
    let subscriber = Subscriber::follow(mesh, "per_chat");
    eventually("the snapshot is there", || subscriber.held().cursor.clone());
    assert_eq!(subscriber.held().snapshots, [""]);
    assert!(mesh.say(&["verify"]).contains("per_chat: equal to its SQL"));
    let twice = mesh.run(&["view", "create", VIEW]);
    assert_eq!(twice.status.code(), Some(1));
    mesh.say(&["view", "drop", "per_chat"]);
    assert!(!mesh.say(&["view", "list"]).contains("per_chat"));
}

fn modules(mesh: &Mesh, module: &str) {
    assert!(mesh.say(&["module", "list"]).contains("chat"));
    assert!(mesh.say(&["module", "check", module]).contains("relation chat_message"));
    assert!(mesh.say(&["module", "apply", module]).contains("is live"));
    assert!(mesh.say(&["view", "list"]).contains("chat_feed"));
}
