//! Tables, views and indexes that migrations have made beside what the replica maintains.
//!
//! A table of the replica's is built anew when its schema or its view changes. So the plain views, which may read it, are
//! dropped before, in the same transaction, and made again behind it, and indexes that went with a table too. One that
//! cannot be made any more, because it names what is gone, is a fault of its own.

use deltamesh_view::{MigrationAction, OwnIndex, OwnKind};

use super::Maintainer;
use super::database::{Database, Object};
use super::mirror::quote;
use super::state::State;
use crate::error::{Error, ErrorKind, Result};

/// Whether the objects stand as the state says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Whole,
    /// Those that are missing may be possible now.
    Due,
    /// The views are dropped, until the end of the transaction.
    Released,
}

/// An object of the user's own.
#[derive(Debug)]
pub(crate) struct OwnObject {
    pub(crate) name: String,
    pub(crate) kind: OwnKind,
    /// Migration that made it.
    pub(crate) by: String,
    made: Made,
    /// Why it is missing.
    pub(crate) fault: Option<String>,
}

/// How it comes back.
#[derive(Debug)]
enum Made {
    /// A table, which the replica never touches.
    Table,
    View(String),
    Index(OwnIndex),
}

/// The objects in order of their creation.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    objects: Vec<OwnObject>,
}

impl Owned {
    pub(crate) fn get(&self, name: &str) -> Option<&OwnObject> {
        self.objects.iter().find(|object| object.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn is_table(&self, name: &str) -> bool {
        self.get(name).is_some_and(|object| object.kind == OwnKind::Table)
    }

    /// Name of each object that is missing, and why.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&str, &str)> {
        let faulted = self.objects.iter();
        faulted.filter_map(|object| Some((object.name.as_str(), object.fault.as_deref()?)))
    }

    /// Follows a statement of a migration.
    pub(crate) fn note(&mut self, action: &MigrationAction, by: &str) {
        let (name, kind, made) = match action {
            MigrationAction::View(_) | MigrationAction::Change { .. } => return,
            MigrationAction::Create { object: OwnKind::View, name, sql } => {
                (name, OwnKind::View, Made::View(sql.clone()))
            }
            MigrationAction::Create { object, name, .. } => (name, *object, Made::Table),
            MigrationAction::Index(index) => (&index.name, OwnKind::Index, Made::Index(index.clone())),
            MigrationAction::Drop { name, .. } => {
                let goes = |object: &OwnObject| {
                    let is_on = matches!(&object.made, Made::Index(index) if index.table == *name);
                    object.name == *name || is_on
                };
                return self.objects.retain(|object| !goes(object));
            }
        };
        let (name, by) = (name.clone(), by.to_owned());
        self.objects.push(OwnObject { name, kind, by, made, fault: None });
    }

    /// Notes which objects the database does not have.
    pub(crate) fn look<D: Database>(&mut self, database: &D, state: &State) -> Result<()> {
        let is_table = |object: &OwnObject| object.kind == OwnKind::Table;
        let tables = self.objects.iter().filter(|object| is_table(object));
        let tables = tables.map(|table| table.name.clone()).collect::<Vec<_>>();
        for object in &mut self.objects {
            let is_there = match &object.made {
                Made::Table => true,
                // On a table of the user's own, it stays with it.
                Made::Index(index) if tables.contains(&index.table) => true,
                Made::View(_) => database.object(&object.name)?.is_some(),
                Made::Index(index) => match state.storage(&index.table) {
                    Some(table) => database.indexes(table)?.contains(&object.name),
                    None => false,
                },
            };
            object.fault = (!is_there).then(|| "cannot be made at present".to_owned());
        }
        Ok(())
    }
}

impl State {
    /// Table that has the rows of a mirror or of a view.
    fn storage(&self, table: &str) -> Option<&str> {
        let mirror = self.mirrors.values().find(|mirror| mirror.table.eq_ignore_ascii_case(table));
        let view = || self.view(table).map(|view| view.definition.storage.as_str());
        mirror.map(|mirror| mirror.table.as_str()).or_else(view)
    }
}

impl<D: Database> Maintainer<D> {
    /// Drops the plain views, which may read what is about to be built anew.
    pub(super) fn release_owned(&self) -> Result<()> {
        if self.standing.replace(Standing::Released) == Standing::Released {
            return Ok(());
        }
        let views = self.state.owned.objects.iter().rev().filter(|object| object.kind == OwnKind::View);
        let drops = views.map(|view| format!("DROP VIEW IF EXISTS {}", quote(&view.name)));
        self.database.define("release views", &drops.collect::<Vec<_>>())
    }

    /// Makes what is missing.
    pub(super) fn settle_owned(&mut self) -> Result<()> {
        if self.standing.replace(Standing::Whole) == Standing::Whole {
            return Ok(());
        }
        for index in 0..self.state.owned.objects.len() {
            let Some(object) = self.state.owned.objects.get(index) else { break };
            let fault = self.restore(object)?.err().map(|error| error.reason().to_owned());
            if let Some(object) = self.state.owned.objects.get_mut(index) {
                if fault.is_some() && object.fault != fault {
                    tracing::warn!(name = object.name, by = object.by, "object of a migration is missing");
                }
                object.fault = fault;
            }
        }
        Ok(())
    }

    /// The inner error is the object's: nothing was changed.
    fn restore(&self, object: &OwnObject) -> Result<Result<()>> {
        match &object.made {
            Made::Table => Ok(Ok(())),
            Made::View(_) if self.database.object(&object.name)?.is_some() => Ok(Ok(())),
            Made::View(sql) => self.attempt(&object.name, || self.make_view(&object.name, sql)),
            Made::Index(index) if self.state.owned.is_table(&index.table) => Ok(Ok(())),
            Made::Index(index) => {
                let there = self.state.storage(&index.table).map(|table| self.database.indexes(table));
                if there.transpose()?.is_some_and(|names| names.contains(&object.name)) {
                    return Ok(Ok(()));
                }
                self.attempt(&object.name, || self.make_index(index))
            }
        }
    }

    /// Makes a plain view, and reads it: SQLite looks at what it names only then.
    pub(super) fn make_view(&self, name: &str, sql: &str) -> Result<()> {
        self.database.define(name, &[sql.to_owned()])?;
        let probe = format!("SELECT 1 FROM {} LIMIT 0", quote(name));
        self.database.rows(name, &probe, &[]).map(|_| ())
    }

    /// Makes an index where the rows of its table are.
    pub(super) fn make_index(&self, index: &OwnIndex) -> Result<()> {
        if self.state.owned.is_table(&index.table) {
            return self.database.define(&index.name, &[index.on(&index.table)]);
        }
        let refused = |kind, reason: String| Err(Error::new(kind, format!("index {}", index.name), reason));
        let Some(storage) = self.state.storage(&index.table) else {
            return refused(ErrorKind::NotFound, format!("there is no table {}", index.table));
        };
        if let Some(reason) = index.only_own {
            return refused(ErrorKind::Plan, reason.to_owned());
        }
        if self.database.object(storage)? == Some(Object::View) {
            let reason = "is not stored: index what it reads, or write WITH (stored = always)";
            return refused(ErrorKind::Plan, format!("view {} {reason}", index.table));
        }
        self.database.define(&index.name, &[index.on(storage)])
    }

    /// Runs what may fail without harm to the transaction.
    fn attempt(&self, place: &str, work: impl FnOnce() -> Result<()>) -> Result<Result<()>> {
        let say = |sql: &str| self.database.execute(place, sql, &[]).map(|_| ());
        say("SAVEPOINT own_object")?;
        let done = work();
        match &done {
            Ok(()) => {}
            Err(error) if error.kind().is_retryable() => return done.map(Ok),
            Err(_) => say("ROLLBACK TO SAVEPOINT own_object")?,
        }
        say("RELEASE SAVEPOINT own_object")?;
        Ok(done)
    }
}
