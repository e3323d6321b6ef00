//! The dbsp crate as a rival of `cargo xtask bench views`: a circuit keeps the views, and its output is committed with the
//! mirrors to a SQLite file of the replica's settings.
//!
//! `deltamesh-bench-dbsp FILE RENAMES WORKERS [outbox]` reads orders from stdin and answers each with a number: for `apply ORDER` and
//! `restart ORDER` the nanoseconds that it took, from the changes in memory until they are committed.

#[path = "../../../crates/replica/benches/views/chat.rs"]
mod chat;
mod circuit;
#[path = "../../../crates/replica/benches/views/memory.rs"]
mod memory;
mod store;
#[path = "../../../crates/replica/benches/views/tables.rs"]
mod tables;
mod views;

use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use dbsp::mimalloc::MiMalloc;

use chat::Chat;
use store::{Options, Store};

/// What dbsp's own benchmarks run with.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Takes the orders of the benchmark.
struct Rival {
    chat: Chat,
    /// Without it after a restart, which is the end.
    store: Option<Store>,
    options: Options,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, renames, workers, outbox) = match &arguments[..] {
        [path, renames, workers] => (path, renames, workers, false),
        [path, renames, workers, outbox] if outbox == "outbox" => (path, renames, workers, true),
        _ => {
            bail!("usage: deltamesh-bench-dbsp FILE RENAMES WORKERS [outbox]; see `cargo xtask bench views`")
        }
    };
    let options = Options { workers: workers.parse().context("WORKERS")?, outbox };
    let store = Some(Store::create(Path::new(path), options)?);
    let mut rival = Rival { chat: Chat::new(renames.parse().context("RENAMES")?), store, options };
    for order in stdin().lock().lines() {
        let answer = rival.answer(&order?)?;
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}

impl Rival {
    fn answer(&mut self, order: &str) -> Result<u64> {
        let store = self.store.as_mut().context("nothing follows a restart")?;
        let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
        match verb {
            "apply" => {
                let changes = self.chat.make(rest.parse()?);
                let started = Instant::now();
                store.apply(&changes)?;
                nanoseconds(started)
            }
            "fill" => store.fill().map(|()| 0),
            "check" => store.check().map(|()| 0),
            "memory" => memory::peak(),
            "restart" => {
                let changes = self.chat.make(rest.parse()?);
                let path = store.killed()?;
                // The first circuit makes room.
                self.store = None;
                let started = Instant::now();
                Store::reopen(&path, self.options)?.apply(&changes)?;
                nanoseconds(started)
            }
            _ => bail!("no order {order}"),
        }
    }
}

fn nanoseconds(since: Instant) -> Result<u64> {
    Ok(u64::try_from(since.elapsed().as_nanos())?)
}
