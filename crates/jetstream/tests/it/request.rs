use std::time::Duration;

use deltamesh_jetstream::{Code, Hop, Requests, ServiceError, StatusBoard, answer_status, gather_status};

use crate::start;

const WAIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn replies_errors_and_silence() {
    let (_server, client) = start().await;
    let mut requests = Requests::subscribe(&client, "source.app.*", Some("q")).await.expect("subscribe");
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let result = match request.subject.as_str() {
                "source.app.mutate" => Ok(request.payload.clone()),
                _ => Err(ServiceError::new(Code::FailedPrecondition, "source is\ntapped")),
            };
            request.finish(result).await.expect("reply");
        }
    });
    assert_eq!(client.request("source.app.mutate", "x", WAIT).await.expect("echo"), "x");
    let error = client.request("source.app.execute", "x", WAIT).await.expect_err("refused");
    assert_eq!(error, ServiceError::new(Code::FailedPrecondition, "source is tapped"));
    let error = client.request("source.other.mutate", "x", WAIT).await.expect_err("nobody");
    assert_eq!(error.code, Code::Unavailable);
}

#[tokio::test]
async fn status_is_gathered_from_every_instance() {
    let (_server, client) = start().await;
    assert_eq!(gather_status(&client, Duration::from_millis(100)).await.expect("none"), []);
    let boards = ["b", "a"].map(|instance| StatusBoard::new("ingest-genji", instance));
    for board in &boards {
        let (client, board) = (client.clone(), board.clone());
        tokio::spawn(async move { answer_status(&client, &board).await });
    }
    boards[0].set_hop(Hop { hop: "capture".into(), subject: "b".into(), lag: 3, ..Hop::default() });
    boards[1].raise("capture", "000002.log:310", "checksum does not match");
    let gathered = loop {
        let gathered = gather_status(&client, Duration::from_millis(300)).await.expect("gather");
        if gathered.len() == 2 {
            break gathered;
        }
    };
    assert_eq!(gathered[0].instance, "a");
    assert_eq!(gathered[0].faults[0].place, "000002.log:310");
    assert_eq!(gathered[1].hops[0].lag, 3);
    boards[1].clear("capture");
    assert_eq!(boards[1].status().faults, []);
}
