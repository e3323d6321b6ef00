//! The stock Go client against a proto that knows nothing of us.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use deltamesh_testkit::reference;
use serde_json::{Value, json};

use crate::mesh::Mesh;

const PROTO: &str = r#"syntax="proto3"; option go_package="./chatpb"; package chatpb;
service ChatService {
  rpc JoinChannel(Channel) returns (stream Message) {}
  rpc SendMessage(stream Message) returns (MessageAck) {}
}
message Channel { string name=1; string senders_name=2; }
message Message { string sender=1; Channel channel=2; string message=3; }
message MessageAck { string status=1; }
"#;

#[test]
fn an_unannotated_chat_has_history_and_live_messages_of_a_channel() {
    let Some(client) = reference("natsgrpc-call") else { return };
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("chatpb");
    fs::create_dir(&module).unwrap();
    fs::write(module.join("chat.proto"), PROTO).unwrap();
    let source = format!("app=genji:{}?mode=host", dir.path().join("db").display());
    let mesh = Mesh::start(
        dir.path(),
        &["--source", &source, "--module", module.to_str().unwrap(), "--nid", "chat1"],
    );
    let call = |arguments: &[&str]| {
        let mut call = Command::new(&client);
        call.args(["-nats", mesh.ready["nats"].as_str().unwrap(), "-svcid", "chat1", "-timeout", "30s"]);
        call.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        call
    };
    let send = |messages: &[Value]| {
        let mut sender = call(&["-send", "-pace", "5ms", "chatpb.ChatService/SendMessage"]).spawn().unwrap();
        let mut requests = sender.stdin.take().unwrap();
        for message in messages {
            writeln!(requests, "{message}").unwrap();
        }
        drop(requests);
        let sent = sender.wait_with_output().unwrap();
        assert!(sent.status.success());
        assert!(String::from_utf8_lossy(&sent.stdout).contains("ok"));
    };
    let message = |sender: &str, channel: &str, text: &str| json!({ "sender": sender, "channel": { "name": channel }, "message": text });

    send(&[message("ann", "harbour", "one"), message("ben", "yard", "two")]);
    let mut joined =
        call(&["-data", r#"{"name":"harbour"}"#, "-count", "2", "chatpb.ChatService/JoinChannel"])
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(joined.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().expect("a message").unwrap()).unwrap();
    assert_eq!(next(), message("ann", "harbour", "one"));
    send(&[message("ben", "yard", "three"), message("ben", "harbour", "four")]);
    assert_eq!(next(), message("ben", "harbour", "four"));
    joined.wait().unwrap();
    assert_eq!(mesh.stop().code(), Some(0));
}
