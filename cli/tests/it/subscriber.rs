//! A subscriber that holds a view's rows by what `deltamesh tail` tells, and checks that every line fits to those before.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::mesh::Mesh;

/// Follows a view until dropped.
pub(crate) struct Subscriber {
    tail: Child,
    held: Arc<Mutex<Held>>,
    reader: Option<JoinHandle<()>>,
}

/// What the subscriber knows.
#[derive(Default)]
pub(crate) struct Held {
    /// Rows by key, both as JSON text.
    pub(crate) rows: BTreeMap<String, Value>,
    /// Why each snapshot has begun.
    pub(crate) snapshots: Vec<String>,
    pub(crate) cursor: Option<String>,
    /// Lines that do not fit to those before.
    pub(crate) wrong: Vec<String>,
    /// Rows of a snapshot were read and it has not ended.
    in_snapshot: bool,
}

impl Subscriber {
    /// Subscribes to a view.
    pub(crate) fn follow(mesh: &Mesh, view: &str) -> Self {
        Self::start(mesh, &["tail", view], Held::default())
    }

    /// Subscribes behind a cursor, holding the rows of that time.
    pub(crate) fn resume(mesh: &Mesh, view: &str, cursor: &str, rows: BTreeMap<String, Value>) -> Self {
        Self::start(mesh, &["tail", view, "--from", cursor], Held { rows, ..Held::default() })
    }

    fn start(mesh: &Mesh, arguments: &[&str], held: Held) -> Self {
        let mut tail = mesh.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        let held = Arc::new(Mutex::new(held));
        let into = Arc::clone(&held);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap_or_else(PoisonError::into_inner).take(&line);
            }
        });
        Self { tail, held, reader: Some(reader) }
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.tail.kill().ok();
        self.tail.wait().ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

impl Held {
    fn take(&mut self, line: &str) {
        let message: Value = serde_json::from_str(line).unwrap();
        let (key, row) = (message["key"].to_string(), message["row"].clone());
        let held = self.rows.get(&key);
        let fits = match message["op"].as_str().unwrap() {
            "snapshot_begin" => {
                self.rows.clear();
                self.snapshots.push(message["reason"].as_str().unwrap_or_default().to_owned());
                self.in_snapshot = true;
                true
            }
            "read" => self.in_snapshot && self.rows.insert(key, row).is_none(),
            "snapshot_end" => std::mem::take(&mut self.in_snapshot),
            "progress" => !self.in_snapshot,
            "insert" => held.is_none() && self.rows.insert(key, row).is_none(),
            "update" => match held {
                Some(former) => {
                    let before = message["before"].as_object().unwrap();
                    let fits = before.iter().all(|(column, value)| former[column] == *value);
                    self.rows.insert(key, row);
                    fits
                }
                None => false,
            },
            "delete" => self.rows.remove(&key).is_some_and(|former| former == row),
            _ => false,
        };
        if !fits {
            self.wrong.push(line.to_owned());
        }
        if let Some(cursor) = message["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
    }
}
