use std::sync::{Arc, Mutex};

use super::Publisher;
use crate::journal::{Ack, Bounds, Journal};
use crate::{Error, ErrorKind, Headers, Message, Stored};

/// What happens to the next append.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Stored,
    AckLost,
    Lost,
    /// Another writer's message arrives first.
    Foreign,
}

#[derive(Default)]
struct Memory {
    messages: Vec<Message>,
    fates: Vec<Fate>,
}

#[derive(Clone, Default)]
struct MemoryJournal(Arc<Mutex<Memory>>);

impl MemoryJournal {
    fn texts(&self) -> Vec<String> {
        let memory = self.0.lock().unwrap();
        memory.messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect()
    }

    fn plan(&self, fates: impl IntoIterator<Item = Fate>) {
        self.0.lock().unwrap().fates = fates.into_iter().collect();
    }
}

impl Journal for MemoryJournal {
    async fn append(&self, after: u64, messages: &[Message]) -> Result<Ack, Error> {
        let mut memory = self.0.lock().unwrap();
        let fate = if memory.fates.is_empty() { Fate::Stored } else { memory.fates.remove(0) };
        if fate == Fate::Foreign {
            memory.messages.push(message("foreign"));
        }
        let stored = fate != Fate::Lost && memory.messages.len() as u64 == after;
        if stored {
            memory.messages.extend_from_slice(messages);
        }
        let result = match fate {
            Fate::AckLost | Fate::Lost => Err(Error::new(ErrorKind::Unavailable, "publish")),
            _ if !stored => Err(Error::new(ErrorKind::Fenced, "publish")),
            _ => Ok(memory.messages.len() as u64),
        };
        Ok(Box::pin(std::future::ready(result)))
    }

    async fn bounds(&self) -> Result<Bounds, Error> {
        Ok(Bounds { first: 1, last: self.0.lock().unwrap().messages.len() as u64 })
    }

    async fn read(&self, sequence: u64) -> Result<Stored, Error> {
        let index = usize::try_from(sequence).unwrap() - 1;
        let message = self.0.lock().unwrap().messages[index].clone();
        Ok(Stored { sequence, subject: message.subject, headers: message.headers, payload: message.payload })
    }

    fn max_message(&self) -> usize {
        1 << 20
    }
}

fn message(text: &str) -> Message {
    Message { subject: "s".into(), headers: Headers::new(), payload: text.to_owned().into() }
}

/// Publishes `a`, `b`+`c`, `d` under the given fates and recovers until everything is durable or refused for good.
async fn check(fates: &[Fate], expected: &[&str], outcome: Result<u64, ErrorKind>) {
    let journal = MemoryJournal::default();
    journal.plan(fates.iter().copied());
    let mut publisher = Publisher::open(journal.clone()).await.expect("open");
    for texts in [&["a"][..], &["b", "c"], &["d"]] {
        publisher.publish(texts.iter().copied().map(message).collect()).await.expect("queue");
    }
    let result = loop {
        let Err(_) = publisher.flush().await else { break Ok(publisher.acked()) };
        match publisher.recover().await {
            Ok(()) => {}
            Err(error) => break Err(error.kind()),
        }
    };
    assert_eq!(result, outcome);
    assert_eq!(journal.texts(), expected);
}

#[tokio::test]
async fn a_lost_ack_neither_doubles_nor_loses() {
    use Fate::{AckLost, Lost, Stored};
    let all = ["a", "b", "c", "d"];
    check(&[], &all, Ok(4)).await;
    check(&[AckLost], &all, Ok(4)).await;
    check(&[Stored, AckLost, AckLost], &all, Ok(4)).await;
    check(&[Lost], &all, Ok(4)).await;
    check(&[Stored, Lost, Stored, Lost, AckLost], &all, Ok(4)).await;
}

#[tokio::test]
async fn another_writer_fences() {
    use Fate::{Foreign, Stored};
    check(&[Foreign], &["foreign", "b", "c", "d"], Err(ErrorKind::Interleaved)).await;
    check(&[Stored, Foreign], &["a", "foreign"], Err(ErrorKind::Fenced)).await;
    check(&[Stored, Stored, Foreign], &["a", "b", "c", "foreign"], Err(ErrorKind::Fenced)).await;
}

#[tokio::test]
async fn a_stream_that_forgot_is_noticed() {
    let journal = MemoryJournal::default();
    let mut publisher = Publisher::open(journal.clone()).await.expect("open");
    publisher.publish(vec![message("a")]).await.expect("publish");
    publisher.flush().await.expect("flush");
    journal.0.lock().unwrap().messages.clear();
    publisher.publish(vec![message("b")]).await.expect("queue");
    assert!(publisher.flush().await.is_err());
    assert_eq!(publisher.recover().await.expect_err("lost").kind(), ErrorKind::Lost);
}
