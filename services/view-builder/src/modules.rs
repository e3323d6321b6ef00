//! The SQL of applied modules: text, migrations, place of an error, outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use deltamesh_jetstream::{Bucket, Entry, StatusBoard};
use deltamesh_replica::{Error, Migration};
use deltamesh_wire::proto::module::v1::{Module, Outcome, SourceFile};
use prost::Message as _;

/// The modules as last seen in the bucket, and what became of each.
#[derive(Debug)]
pub(crate) struct Modules {
    /// Only these have views here; without any: all.
    kept: Vec<String>,
    known: BTreeMap<String, Known>,
    /// Modules whose views are made, and whose migrations are applied one by one.
    migrating: VecDeque<Migrating>,
}

#[derive(Debug)]
struct Known {
    version: u64,
    sql: Vec<SourceFile>,
    migrations: Vec<SourceFile>,
    /// Why its views are not those of this version, where they are not.
    refusal: Option<String>,
}

/// A module whose views are to be made those of its SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    /// The SQL of its views in one text; empty for a removed module.
    pub(crate) sql: String,
    /// In their order.
    pub(crate) migrations: Vec<Migration>,
}

/// A module whose migrations are being applied.
#[derive(Debug, Clone)]
pub(crate) struct Migrating {
    pub(crate) name: String,
    pub(crate) migrations: Arc<Vec<Migration>>,
    /// Its outcome is to be published whatever it is.
    pub(crate) first: bool,
}

impl Modules {
    /// The modules of a replica that keeps the views of these, or of all.
    pub(crate) fn new(kept: Vec<String>) -> Self {
        Self { kept, known: BTreeMap::new(), migrating: VecDeque::new() }
    }

    /// Takes an entry of the bucket; gives the module to apply. A value that is no module is an outcome by itself. One whose
    /// views are kept elsewhere counts as without views.
    pub(crate) fn take(&mut self, entry: Entry) -> Result<Wanted, (String, Outcome)> {
        let name = entry.key;
        self.migrating.retain(|other| other.name != name);
        let Some(value) = entry.value else {
            self.known.remove(&name);
            return Ok(Wanted { name, sql: String::new(), migrations: vec![] });
        };
        match Module::decode(value) {
            Ok(module) => {
                let is_kept = self.kept.is_empty() || self.kept.contains(&name);
                let (sql, migrations) =
                    if is_kept { (module.sql, module.migrations) } else { (vec![], vec![]) };
                let known = Known { version: module.version, sql, migrations, refusal: None };
                let wanted = known.wanted(&name);
                self.known.insert(name, known);
                Ok(wanted)
            }
            Err(error) => {
                let error = format!("module {name}: not a module: {error}");
                Err((name, Outcome { version: 0, accepted: false, error }))
            }
        }
    }

    /// Modules that were refused and may be accepted now.
    pub(crate) fn refused(&self) -> Vec<Wanted> {
        let refused = self.known.iter().filter(|(_, known)| known.refusal.is_some());
        refused.map(|(name, known)| known.wanted(name)).collect()
    }

    /// Has the migrations of a module applied, those of one file each time that [`Self::next_migrating`] is asked.
    pub(crate) fn migrate(&mut self, migrating: Migrating) {
        self.migrating.retain(|other| other.name != migrating.name);
        self.migrating.push_back(migrating);
    }

    /// Whether migrations wait.
    pub(crate) fn is_migrating(&self) -> bool {
        !self.migrating.is_empty()
    }

    /// The module whose next migration is to be applied.
    pub(crate) fn next_migrating(&mut self) -> Option<Migrating> {
        self.migrating.pop_front()
    }

    /// Notes what became of a module; gives the outcome to publish where it is a new one.
    pub(crate) fn settle(&mut self, name: &str, error: Option<&Error>, first: bool) -> Option<Outcome> {
        let known = self.known.get_mut(name)?;
        let refusal = error.map(|error| known.describe(name, error));
        let same = known.refusal == refusal;
        known.refusal.clone_from(&refusal);
        if same && !first {
            return None;
        }
        let accepted = refusal.is_none();
        Some(Outcome { version: known.version, accepted, error: refusal.unwrap_or_default() })
    }

    /// Shows refused modules as faults.
    pub(crate) fn show(&self, name: &str, board: &StatusBoard) {
        let part = format!("module {name}");
        match self.known.get(name).and_then(|known| known.refusal.as_deref()) {
            None => board.clear(&part),
            Some(refusal) => {
                let (place, reason) = refusal.split_once(": ").unwrap_or((name, refusal));
                board.raise(&part, place, reason);
            }
        }
    }
}

impl Known {
    fn wanted(&self, name: &str) -> Wanted {
        let migration = |file: &SourceFile| Migration { path: file.path.clone(), sql: file.text.clone() };
        let migrations = self.migrations.iter().map(migration).collect();
        Wanted { name: name.to_owned(), sql: self.text(), migrations }
    }

    fn text(&self) -> String {
        self.sql.iter().map(|file| format!("{}\n;\n", file.text)).collect()
    }

    /// `file:line:column: reason`, from the place in the whole text.
    fn describe(&self, name: &str, error: &Error) -> String {
        let Some((line, column, reason)) = located(error.reason()) else {
            return format!("module {name}: {error}");
        };
        if self.migrations.iter().any(|file| file.path == error.place()) {
            return format!("{}:{line}:{column}: {reason}", error.place());
        }
        let mut first = 1;
        for file in &self.sql {
            let lines = file.text.matches('\n').count() + 1;
            if line < first + lines {
                return format!("{}:{}:{column}: {reason}", file.path, line - first + 1);
            }
            first += lines + 1;
        }
        format!("module {name}: {reason}")
    }
}

/// Splits `line:column: reason`.
fn located(text: &str) -> Option<(usize, usize, &str)> {
    let (place, reason) = text.split_once(": ")?;
    let (line, column) = place.split_once(':')?;
    Some((line.parse().ok()?, column.parse().ok()?, reason))
}

/// Publishes what became of a module.
pub(crate) async fn publish_outcome(
    bucket: &Bucket,
    module: &str,
    replica: &str,
    outcome: &Outcome,
) -> Result<(), deltamesh_jetstream::Error> {
    let key = format!("{module}.view-builder.{replica}");
    bucket.put(&key, outcome.encode_to_vec()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use deltamesh_replica::ErrorKind;

    use super::*;

    #[test]
    fn a_module_of_another_replica_has_no_views_here() {
        let entry = |name: &str| {
            let sql = vec![SourceFile { path: "a.sql".into(), text: "one".into() }];
            let module = Module { name: name.into(), version: 3, sql, ..Module::default() };
            Entry { key: name.into(), value: Some(module.encode_to_vec().into()), revision: 1 }
        };
        let mut modules = Modules::new(vec!["mine".into()]);
        assert!(modules.take(entry("mine")).unwrap().sql.contains("one"));
        let nothing = Wanted { name: "other".into(), sql: String::new(), migrations: vec![] };
        assert_eq!(modules.take(entry("other")), Ok(nothing));
        let outcome = modules.settle("other", None, true).unwrap();
        assert_eq!((outcome.version, outcome.accepted), (3, true));
        assert!(Modules::new(vec![]).take(entry("other")).unwrap().sql.contains("one"));
    }

    #[test]
    fn an_error_is_placed_in_its_file() {
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.into() };
        let sql = vec![file("a.sql", "one\ntwo\n"), file("b.sql", "three")];
        let known =
            Known { version: 1, sql, migrations: vec![file("migrations/1_a.sql", "")], refusal: None };
        let lines = known.text();
        for (word, place) in [("one", "a.sql:1:1"), ("two", "a.sql:2:1"), ("three", "b.sql:1:1")] {
            let line = lines.lines().position(|line| line == word).unwrap() + 1;
            let error = Error::new(ErrorKind::Plan, "view v", format!("{line}:1: no such thing"));
            assert_eq!(known.describe("m", &error), format!("{place}: no such thing"));
        }
        let error = Error::new(ErrorKind::Sql, "migrations/1_a.sql", "7:3: no such column");
        assert_eq!(known.describe("m", &error), "migrations/1_a.sql:7:3: no such column");
        let error = Error::new(ErrorKind::Conflict, "view v", "exists already");
        assert_eq!(known.describe("m", &error), "module m: view v: exists already");
    }
}
