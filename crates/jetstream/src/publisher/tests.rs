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

/// Publishes `a`, `b`+`c` and `d`, or `a` and a batch, under the given fates and recovers until everything is durable or
/// refused for good.
async fn check(groups: &[&[&str]], fates: &[Fate], expected: &[&str], outcome: Result<u64, ErrorKind>) {
    let journal = MemoryJournal::default();
    journal.plan(fates.iter().copied());
    let mut publisher = Publisher::open(journal.clone()).await.expect("open");
    for group in groups {
        publisher.publish(group.iter().copied().map(message).collect()).await.expect("queue");
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

const SMALL: [&[&str]; 3] = [&["a"], &["b", "c"], &["d"]];
const LARGE: [&[&str]; 3] = [&["a"], &["1", "2", "3", "4", "5", "6", "7", "8", "9"], &["d"]];

#[tokio::test]
async fn a_lost_ack_neither_doubles_nor_loses() {
    use Fate::{AckLost, Lost, Stored};
    for (groups, all) in [(SMALL, "abcd"), (LARGE, "a123456789d")] {
        let all: Vec<String> = all.chars().map(String::from).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        for fates in [
            &[][..],
            &[AckLost],
            &[Stored, AckLost, AckLost],
            &[Lost],
            &[Stored, Lost, Stored, Lost, AckLost],
            &[Stored, Stored, Lost],
        ] {
            check(&groups, fates, &all, Ok(all.len() as u64)).await;
        }
    }
}

#[tokio::test]
async fn another_writer_fences() {
    use Fate::{Foreign, Stored};
    let interleaved = Err(ErrorKind::Interleaved);
    let fenced = Err(ErrorKind::Fenced);
    check(&SMALL, &[Foreign], &["foreign", "b", "c", "d"], interleaved).await;
    check(&SMALL, &[Stored, Foreign], &["a", "foreign", "c", "d"], interleaved).await;
    check(&SMALL, &[Stored, Stored, Stored, Foreign], &["a", "b", "c", "foreign"], fenced).await;
    check(&LARGE, &[Stored, Foreign], &["a", "foreign"], fenced).await;
    let all = ["a", "1", "2", "3", "4", "5", "6", "7", "8", "9", "foreign"];
    check(&LARGE, &[Stored, Stored, Foreign], &all, fenced).await;
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
