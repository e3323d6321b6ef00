use deltamesh_change::SourcePosition;
use deltamesh_jetstream::{
    Client, ErrorKind, Fence, Limits, Message, Publisher, StreamJournal, ensure_changes, publish_writer,
    without_rows,
};

use crate::{flush, message, start};

const UNLIMITED: Limits = Limits { messages: None, bytes: None, age: None };

/// A writer with its publisher.
struct Writer {
    fence: Fence,
    publisher: Publisher,
}

impl Writer {
    async fn open(client: &Client, directory: &str) -> Self {
        let publisher = Publisher::open(journal(client).await).await.expect("open");
        let mut writer = Self { fence: Fence::new("app", directory, UNLIMITED), publisher };
        writer.renew().await;
        writer
    }

    async fn renew(&mut self) {
        let message = self.fence.renew(self.publisher.end() + 1, &without_rows(&position(1), 1));
        self.publisher.publish(vec![message]).await.expect("sent");
    }

    async fn publish(&mut self, mut messages: Vec<Message>) {
        self.fence.seal(&mut messages);
        self.publisher.publish(messages).await.expect("sent");
    }

    /// Whether the fence stands.
    async fn check(&self) -> Result<(), ErrorKind> {
        self.fence.check(self.publisher.journal()).await.map_err(|error| error.kind())
    }
}

fn position(ordinal: u64) -> SourcePosition {
    SourcePosition { incarnation: "a".into(), ordinal, ..SourcePosition::default() }
}

async fn journal(client: &Client) -> StreamJournal {
    StreamJournal::open(client, "CHANGES_APP").await.expect("open")
}

async fn purge(client: &Client) {
    let purged = client.nats().request("$JS.API.STREAM.PURGE.CHANGES_APP", "".into()).await.expect("purge");
    assert!(String::from_utf8_lossy(&purged.payload).contains("\"success\":true"), "{purged:?}");
}

#[tokio::test]
async fn a_writer_publishes_until_another_one_comes() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let mut first = Writer::open(&client, "a").await;
    // One by one, and as an atomic batch.
    first.publish(vec![message("changes.app.t", "1")]).await;
    first.publish(vec![message("changes.app.t", "2"), message("changes.app.u", "3")]).await;
    first.renew().await;
    first.publish(vec![message("changes.app.t", "4")]).await;
    flush(&mut first.publisher).await;
    assert_eq!((first.publisher.acked(), first.check().await), (6, Ok(())));

    // In flight while another one takes over: of these the last one would fit by its sequence.
    let behind = publish_writer(&client, "app", 6, "b", &position(2), 2).await.expect("takes over");
    assert_eq!(behind, 7);
    first.publish(vec![message("changes.app.t", "5")]).await;
    first.publish(vec![message("changes.app.t", "6")]).await;
    let refused = first.publisher.flush().await.expect_err("fenced").kind();
    assert_eq!((refused, first.check().await), (ErrorKind::Fenced, Err(ErrorKind::Fenced)));
    let error = publish_writer(&client, "app", 6, "c", &position(2), 2).await.expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn without_a_writer_message_nobody_can_publish() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let mut first = Writer::open(&client, "a").await;
    flush(&mut first.publisher).await;
    purge(&client).await;
    for text in ["1", "2"] {
        first.publish(vec![message("changes.app.t", text)]).await;
    }
    assert_eq!(first.publisher.flush().await.expect_err("refused").kind(), ErrorKind::Fenced);
    assert_eq!(first.check().await, Err(ErrorKind::Fenced));
    // With a new one it goes on, at sequences that were never given out; what the old fence had in flight stays out.
    let mut second = Writer::open(&client, "a").await;
    second.publish(vec![message("changes.app.t", "1")]).await;
    flush(&mut second.publisher).await;
    assert_eq!((second.publisher.acked(), second.check().await), (3, Ok(())));
    assert!(first.publisher.recover().await.is_err());
}
