//! The demo, as a newcomer sees it.

use crate::mesh::command;

#[test]
fn every_hop_of_every_message_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let root = deltamesh_testkit::workspace_root();
    let output = command()
        .current_dir(&root)
        .args(["demo", "--once", "--folder"])
        .arg(dir.path().join("demo"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for hop in ["commit", "log", "view", "feed", "client", "answer"] {
        assert!(text.matches(&format!(" ms  {hop:6}  ")).count() >= 7, "{hop} in\n{text}");
    }
    for suggestion in ["/chat", "nats sub", "grpcurl", "sqlite3", "curl"] {
        assert!(text.contains(suggestion), "{suggestion} in\n{text}");
    }
}
