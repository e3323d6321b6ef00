//! What is refused, and how.

use std::fs;
use std::process::Output;

use crate::mesh::{Mesh, command};

fn refused(arguments: &[&str], code: i32, sentence: &str) {
    let dir = tempfile::tempdir().unwrap();
    let output = command().current_dir(dir.path()).args(arguments).output().unwrap();
    check(&output, code, sentence);
}

fn check(output: &Output, code: i32, sentence: &str) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert!(complaint.contains(sentence), "{complaint}");
}

#[test]
fn bad_configuration_is_one_sentence_and_64() {
    refused(&["up", "--source", "app"], 64, "--source app: write NAME=genji:PATH");
    refused(&["up", "--source", "app=genji:db?mode=both"], 64, "mode=both");
    refused(&["up", "--source", "a=genji:x", "--source", "a=genji:y"], 64, "is taken by another source");
    refused(&["up", "--http", "nowhere"], 64, "--http nowhere: write ADDRESS:PORT");
    refused(&["up", "--replica", "mysql://localhost/x"], 64, "write sqlite:PATH or postgres://HOST/DATABASE");
    refused(&["up", "--nid", "a.b"], 64, "--nid a.b");
    refused(&["fly"], 64, "unrecognized subcommand");
}

#[test]
fn where_nothing_runs_the_next_step_is_named() {
    for command in [&["status"][..], &["sql", "SELECT 1"], &["tail", "v"], &["verify"], &["view", "list"]] {
        refused(command, 1, "start it with `deltamesh up --dir .deltamesh`");
    }
    refused(&["--nats", "nats://127.0.0.1:1", "status"], 1, "no NATS server answers at nats://127.0.0.1:1");
}

#[test]
fn a_bad_module_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("app=genji:{}?mode=host", dir.path().join("db").display());
    let module = dir.path().join("notes");
    fs::create_dir(&module).unwrap();
    let proto = "syntax = \"proto3\";\npackage notes;\n\
                 service Notes { rpc Put(Note) returns (Ack); }\n\
                 message Note { string id = 1; string status = 2; }\nmessage Ack { string status = 1; }\n";
    let sql = "CREATE MATERIALIZED VIEW per_status AS SELECT status, COUNT(*) AS notes FROM note GROUP BY status;\n";
    fs::write(module.join("notes.proto"), proto).unwrap();
    fs::write(module.join("views.sql"), sql).unwrap();
    let path = module.to_str().unwrap();
    let mesh = Mesh::start(dir.path(), &["--source", &source, "--module", path]);

    fs::write(module.join("notes.proto"), proto.replace("string id", "strin id")).unwrap();
    check(&mesh.run(&["module", "apply", path]), 1, "notes.proto:4:16: ");
    check(&mesh.run(&["module", "check", path]), 1, "notes.proto:4:16: ");
    fs::write(module.join("notes.proto"), proto.replace("string status = 2", "int64 status = 2")).unwrap();
    check(&mesh.run(&["module", "apply", path]), 1, "notes.proto:4:");
    fs::write(module.join("notes.proto"), proto).unwrap();
    fs::write(module.join("views.sql"), sql.replace("SELECT status", "SELECT colour")).unwrap();
    check(&mesh.run(&["module", "apply", path]), 1, "views.sql:1:");
    assert_eq!(mesh.rows("SELECT * FROM per_status").len(), 0);
    assert!(mesh.say(&["module", "list"]).contains("notes"));

    fs::write(module.join("views.sql"), sql).unwrap();
    assert!(mesh.say(&["module", "apply", path]).contains("is live"));
    check(
        &mesh.run(&["view", "create", "CREATE MATERIALIZED VIEW v AS SELECT nothing FROM note"]),
        1,
        "nothing",
    );
    assert!(mesh.say(&["module", "remove", "notes"]).contains("is removed"));
    assert_eq!(mesh.stop().code(), Some(0));
}
