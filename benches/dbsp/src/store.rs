//! The file with mirrors and views beside the circuit; one transaction for each batch.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rusqlite::Connection;

use crate::chat::{Change, Message};
use crate::circuit::Circuit;
use crate::tables;
use crate::views::write;

/// How it is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Threads of the circuit.
    pub(crate) workers: usize,
    /// Whether what changes in the views is written for subscribers too, as the replica does.
    pub(crate) outbox: bool,
}

/// See the module.
pub(crate) struct Store {
    path: PathBuf,
    connection: Connection,
    options: Options,
    /// Since the views are there.
    circuit: Option<Circuit>,
}

/// Mirrored rows that go into the circuit at once.
const SLICE: usize = 100_000;

impl Store {
    /// A new file without views.
    pub(crate) fn create(path: &Path, options: Options) -> Result<Self> {
        let connection = tables::base_tables(path)?;
        connection.execute_batch(tables::VIEW_TABLES)?;
        connection.execute_batch(tables::OUTBOX)?;
        Ok(Self { path: path.to_owned(), connection, options, circuit: None })
    }

    /// Commits a batch: mirrors, and what it changes in the views if they are there.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        tables::upsert(&transaction, changes)?;
        if let Some(circuit) = &mut self.circuit {
            circuit.feed(changes);
            circuit.step()?;
            write(&transaction, circuit, self.options.outbox)?;
        }
        Ok(transaction.commit()?)
    }

    /// Makes the views over what the mirrors have.
    pub(crate) fn fill(&mut self) -> Result<()> {
        let mut circuit = Circuit::new(self.options.workers)?;
        let transaction = self.connection.transaction()?;
        mirrored(&transaction, |changes| {
            circuit.feed(changes);
            circuit.step()?;
            write(&transaction, &circuit, false)
        })?;
        transaction.commit()?;
        self.circuit = Some(circuit);
        tables::empty_wal(&self.connection)
    }

    /// The file as a killed process leaves it.
    pub(crate) fn killed(&self) -> Result<PathBuf> {
        tables::copy(&self.path)
    }

    /// Over such a file: a new circuit takes the mirrors; what it says of the views is there already.
    pub(crate) fn reopen(path: &Path, options: Options) -> Result<Self> {
        let connection = tables::open(path)?;
        let mut circuit = Circuit::new(options.workers)?;
        mirrored(&connection, |changes| {
            circuit.feed(changes);
            circuit.step()
        })?;
        Ok(Self { path: path.to_owned(), connection, options, circuit: Some(circuit) })
    }

    /// Compares the views with their SQL.
    pub(crate) fn check(&self) -> Result<()> {
        tables::check(&self.connection)
    }
}

/// All mirrored rows as changes, in slices; messages last.
fn mirrored(connection: &Connection, mut take: impl FnMut(&[Change]) -> Result<()>) -> Result<()> {
    let mut slice = Vec::with_capacity(SLICE);
    let mut users = connection.prepare("SELECT id, name FROM usr")?;
    let users = users.query_map([], |row| Ok(Change::User(row.get(0)?, row.get(1)?)))?;
    let mut chats = connection.prepare("SELECT id, topic FROM chat")?;
    let chats = chats.query_map([], |row| Ok(Change::Chat(row.get(0)?, row.get(1)?)))?;
    let mut messages = connection.prepare("SELECT id, chat, usr, body, sent, del FROM msg")?;
    let messages = messages.query_map([], |row| {
        let (id, chat, usr) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (body, sent, del) = (row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(Change::Message(Message { id, chat, usr, body, sent, del }))
    })?;
    for change in users.chain(chats).chain(messages) {
        slice.push(change?);
        if slice.len() == SLICE {
            take(&slice)?;
            slice.clear();
        }
    }
    take(&slice)
}
