//! What statements return: rows as JSON, in pages that fit a message.
//!
//! The first page goes out with the answer. The others wait here until the caller fetches them, bounded in bytes and time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deltamesh_change::{Value, to_json};
use deltamesh_genji::{Document, Error, ErrorKind};
use deltamesh_jetstream::{Code, ServiceError};
use tokio::time::Instant;

/// A page takes no further row above this size, in bytes.
const PAGE: usize = 512 << 10;
/// Room in a message beside its rows.
pub(crate) const HEADROOM: usize = 4 << 10;
/// Most bytes that a statement may return.
const RESULT: usize = 64 << 20;
/// Most bytes that wait to be fetched; the oldest result goes first.
const HELD: usize = 128 << 20;
/// Most bytes of all results, also of those that are not answered yet.
const ROOM: usize = 256 << 20;
/// A result that nobody fetches from for this time is dropped.
const KEPT: Duration = Duration::from_secs(30);

/// Rows, as JSON objects.
pub(crate) type Page = Vec<String>;

/// Bytes that results take up in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room {
    used: Arc<AtomicUsize>,
}

impl Room {
    /// Takes bytes, if that many are left.
    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= ROOM);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

/// The rows that a statement returned. They take up room until they are dropped.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pages: VecDeque<Page>,
    /// Bytes taken.
    taken: usize,
    room: Room,
}

impl Rows {
    /// Gives out the first page that is left, and its room back.
    fn pop(&mut self) -> Option<Page> {
        let page = self.pages.pop_front()?;
        let bytes: usize = page.iter().map(|row| row.len() + HEADER).sum();
        self.taken -= bytes;
        self.room.used.fetch_sub(bytes, Ordering::Relaxed);
        Some(page)
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// Takes the rows of a statement.
pub(crate) struct Pages {
    /// Largest row that a message can carry.
    row_limit: usize,
    rows: Rows,
    /// Bytes of the last page.
    last: usize,
    /// Most bytes of all.
    limit: usize,
    /// Whether a row was refused.
    is_refused: bool,
}

impl Pages {
    pub(crate) fn new(max_message: usize, room: &Room) -> Self {
        let row_limit = max_message.saturating_sub(HEADROOM);
        let rows = Rows { pages: VecDeque::new(), taken: 0, room: room.clone() };
        Self { row_limit, rows, last: 0, limit: RESULT, is_refused: false }
    }

    /// # Errors
    /// The row, or all rows together, are too large, or too many results are on their way; see [`Self::is_refused`].
    pub(crate) fn push(&mut self, row: Document) -> Result<bool, Error> {
        let row = to_json(&Value::Document(row)).to_string();
        let size = row.len() + HEADER;
        let refusal = if size > self.row_limit {
            format!("a returned row exceeds {} bytes", self.row_limit)
        } else if self.rows.taken + size > self.limit {
            format!("returned rows exceed {} bytes", self.limit)
        } else if !self.rows.room.take(size) {
            "too many returned rows wait to be fetched, try again".to_owned()
        } else {
            self.rows.taken += size;
            self.add(row, size);
            return Ok(true);
        };
        self.is_refused = true;
        Err(Error::new(ErrorKind::Unsupported, refusal))
    }

    fn add(&mut self, row: String, size: usize) {
        match self.rows.pages.back_mut() {
            Some(page) if self.last + size <= PAGE.min(self.row_limit) => {
                page.push(row);
                self.last += size;
            }
            _ => {
                self.rows.pages.push_back(vec![row]);
                self.last = size;
            }
        }
    }

    /// Whether the statement failed because it returned too much.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    pub(crate) fn finish(self) -> Rows {
        self.rows
    }
}

/// Bytes of a row's tag and length in the message.
pub(crate) const HEADER: usize = 6;

struct Held {
    id: String,
    /// Number of the first page that is left.
    first: u64,
    rows: Rows,
    since: Instant,
}

/// Results of which pages are left to fetch, oldest first.
pub(crate) struct Results {
    held: VecDeque<Held>,
    /// Most bytes that are held.
    limit: usize,
}

impl Default for Results {
    fn default() -> Self {
        Self { held: VecDeque::new(), limit: HELD }
    }
}

impl Results {
    /// Takes a result; returns its first page, and what to ask for to get the next.
    pub(crate) fn begin(&mut self, mut rows: Rows) -> (Page, String) {
        let page = rows.pop().unwrap_or_default();
        if rows.pages.is_empty() {
            return (page, String::new());
        }
        let held = Held { id: nuid::next().to_string(), first: 1, rows, since: Instant::now() };
        let next = next(&held.id, held.first);
        self.held.push_back(held);
        while self.held.len() > 1 && self.held.iter().map(|held| held.rows.taken).sum::<usize>() > self.limit
        {
            self.held.pop_front();
        }
        (page, next)
    }

    /// A page, and what to ask for to get the one behind it. Pages before it are given up.
    ///
    /// # Errors
    /// The page is not held.
    pub(crate) fn fetch(&mut self, wanted: &str) -> Result<(Page, String), ServiceError> {
        let gone = || {
            let reason =
                "these rows are held no more, or never were: run the statement again, or fewer rows of it";
            ServiceError::new(Code::NotFound, reason)
        };
        let (id, number) = wanted.rsplit_once('.').ok_or_else(gone)?;
        let number = number.parse::<u64>().map_err(|_not_ours| gone())?;
        let place = self.held.iter().position(|held| held.id == id).ok_or_else(gone)?;
        let held = self.held.get_mut(place).ok_or_else(gone)?;
        let skipped = number.checked_sub(held.first).ok_or_else(gone)?;
        let skipped = usize::try_from(skipped).ok().filter(|skipped| *skipped < held.rows.pages.len());
        for _ in 0..skipped.ok_or_else(gone)? {
            held.rows.pop();
        }
        held.first = number;
        held.since = Instant::now();
        let page = held.rows.pages.front().cloned().unwrap_or_default();
        let next = if held.rows.pages.len() > 1 { next(id, number + 1) } else { String::new() };
        Ok((page, next))
    }

    /// Waits until a result has been left alone for too long, and drops it; forever where none is held.
    pub(crate) async fn expire(&mut self) {
        let Some(oldest) = self.held.iter().map(|held| held.since).min() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(oldest + KEPT).await;
        self.held.retain(|held| held.since.elapsed() < KEPT);
    }
}

fn next(id: &str, page: u64) -> String {
    format!("{id}.{page}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize) -> Document {
        vec![("a".to_owned(), Value::Text("x".repeat(length)))]
    }

    fn pages(rows: usize, length: usize) -> Rows {
        let mut pages = Pages::new(1 << 20, &Room::default());
        for _ in 0..rows {
            assert!(pages.push(row(length)).unwrap());
        }
        pages.finish()
    }

    #[test]
    fn pages_fit_messages() {
        assert_eq!(pages(0, 1).pages, VecDeque::<Page>::new());
        let split = pages(10, 200 << 10);
        assert_eq!(split.pages.iter().map(Vec::len).collect::<Vec<_>>(), [2; 5]);
        // One row may be larger than a page, not than a message.
        assert_eq!(pages(2, 800 << 10).pages.len(), 2);
        let mut refused = Pages::new(1 << 20, &Room::default());
        assert!(refused.push(row(1 << 20)).is_err());
        assert!(refused.is_refused());
        let mut refused = Pages { limit: 1 << 20, ..Pages::new(1 << 20, &Room::default()) };
        let taken = (0..100).take_while(|_| refused.push(row(100_000)).is_ok()).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn dropped_rows_give_their_room_back() {
        let room = Room::default();
        assert!(room.take(ROOM - 100));
        let mut pages = Pages::new(1 << 20, &room);
        pages.push(row(10)).unwrap();
        assert!(pages.push(row(100)).is_err());
        assert!(pages.is_refused());
        drop(pages.finish());
        assert_eq!(room.used.load(Ordering::Relaxed), ROOM - 100);
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_fetched_in_order_and_again() {
        let mut results = Results::default();
        assert_eq!(results.begin(pages(1, 1)).1, "");
        let (first, second) = results.begin(pages(6, 200 << 10));
        assert_eq!(first.len(), 2);
        let (page, third) = results.fetch(&second).unwrap();
        assert_eq!(results.fetch(&second).unwrap(), (page, third.clone()));
        assert_eq!(results.fetch(&third).unwrap().1, "");
        for gone in [second.as_str(), "", "x", "x.1", "x.-1"] {
            assert_eq!(results.fetch(gone).unwrap_err().code, Code::NotFound, "{gone}");
        }
        results.expire().await;
        assert!(results.fetch(&third).is_err());
    }

    #[tokio::test]
    async fn the_oldest_result_makes_room() {
        let mut results = Results { limit: 3 << 20, ..Results::default() };
        let tokens: Vec<String> = (0..3).map(|_| results.begin(pages(4, 500_000)).1).collect();
        assert!(results.fetch(&tokens[0]).is_err());
        assert!(results.fetch(&tokens[1]).is_ok());
        assert!(results.fetch(&tokens[2]).is_ok());
    }
}
