//! What became of sessions: a session's commit is a row beside its changes.
//!
//! COMMIT writes the session's name into the table [`TABLE`] of the database, in the same transaction. So whoever did not get
//! the answer asks again and learns what is true, also of a host that was killed meanwhile, and of a standby that has taken
//! over: to the change log the table is one like any other. It is a ring of slots. A name carries the number of the newest
//! commit when the session began, which tells a session that was not committed from one whose slot was taken since.

use std::collections::{BTreeMap, HashMap};

use deltamesh_change::{EnginePosition, Value};
use deltamesh_genji::{Database, Document, Error, ErrorKind, WriteTransaction};

/// Tables whose names begin so are the host's own.
pub(crate) const RESERVED: &str = "__deltamesh_";
/// Name of the table.
const TABLE: &str = "__deltamesh_commits";
const DEFINITION: &str = "CREATE TABLE IF NOT EXISTS __deltamesh_commits \
    (slot INTEGER PRIMARY KEY, number INTEGER NOT NULL, session TEXT NOT NULL)";
/// Commits that are remembered.
const KEPT: i64 = 16_384;

/// What became of a session that is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is in the database; the engine stood there, or further on, behind it.
    Committed(EnginePosition),
    NotCommitted,
    /// More sessions have been committed since than are remembered.
    Forgotten,
    /// No host gave out that name.
    Unknown,
}

/// The commits that the database remembers.
pub(crate) struct Commits {
    /// Session and position by number. The position is not known of those that are older than this run.
    kept: BTreeMap<i64, (String, Option<EnginePosition>)>,
    numbers: HashMap<String, i64>,
    opened: EnginePosition,
}

impl Commits {
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn load(database: &Database) -> Result<Self, Error> {
        let opened = database.position()?;
        let mut commits = Self { kept: BTreeMap::new(), numbers: HashMap::new(), opened };
        if database.tables().iter().any(|table| table.name == TABLE) {
            for row in database.rows(TABLE)? {
                let (number, session) = commit(row?.1)?;
                commits.keep(number, session, None);
            }
        }
        Ok(commits)
    }

    fn last(&self) -> i64 {
        self.kept.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// A name for a session that begins now.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", nuid::next(), self.last())
    }

    /// Adds the session's row to its transaction; returns the number of the commit.
    ///
    /// # Errors
    /// The row cannot be written.
    pub(crate) fn record(&self, transaction: &mut WriteTransaction<'_>, session: &str) -> Result<i64, Error> {
        transaction.execute(DEFINITION, &[])?;
        let number = self.last() + 1;
        let row = [
            ("slot".to_owned(), Value::Int(number % KEPT)),
            ("number".to_owned(), Value::Int(number)),
            ("session".to_owned(), Value::Text(session.to_owned())),
        ];
        transaction.upsert(TABLE, &row)?;
        Ok(number)
    }

    /// Notes a commit that was recorded and submitted.
    pub(crate) fn committed(&mut self, number: i64, session: String, position: EnginePosition) {
        self.keep(number, session, Some(position));
    }

    fn keep(&mut self, number: i64, session: String, position: Option<EnginePosition>) {
        self.numbers.insert(session.clone(), number);
        self.kept.insert(number, (session, position));
        while self.kept.len() as u64 > KEPT.unsigned_abs() {
            if let Some((_, (session, _))) = self.kept.pop_first() {
                self.numbers.remove(&session);
            }
        }
    }

    pub(crate) fn fate(&self, session: &str) -> Fate {
        if let Some(number) = self.numbers.get(session) {
            let known = self.kept.get(number).and_then(|(_, position)| *position);
            return Fate::Committed(known.unwrap_or(self.opened));
        }
        let begun = session.rsplit_once('.').and_then(|(_, begun)| begun.parse::<i64>().ok());
        match begun {
            Some(begun) if begun >= self.last() - KEPT => Fate::NotCommitted,
            Some(_) => Fate::Forgotten,
            None => Fate::Unknown,
        }
    }
}

fn commit(row: Document) -> Result<(i64, String), Error> {
    let (mut number, mut session) = (None, None);
    for (name, value) in row {
        match (name.as_str(), value) {
            ("number", Value::Int(value)) => number = Some(value),
            ("session", Value::Text(value)) => session = Some(value),
            _ => {}
        }
    }
    let broken = || Error::new(ErrorKind::Corrupt, "table __deltamesh_commits holds another row");
    number.zip(session).ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use deltamesh_genji::HostOptions;

    use super::*;

    fn commit_one(database: &Database, commits: &mut Commits) -> String {
        let session = commits.name();
        let mut transaction = database.begin();
        let number = commits.record(&mut transaction, &session).unwrap();
        let position = transaction.commit().unwrap().unwrap();
        commits.committed(number, session.clone(), position);
        session
    }

    #[test]
    fn commits_survive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Database::open(dir.path(), &HostOptions::default()).unwrap();
        let database = open();
        let mut commits = Commits::load(&database).unwrap();
        let open_session = commits.name();
        let committed = commit_one(&database, &mut commits);
        let position = database.position().unwrap();
        assert_eq!(commits.fate(&committed), Fate::Committed(position));
        assert_eq!(commits.fate(&open_session), Fate::NotCommitted);
        drop(database);
        let database = open();
        let commits = Commits::load(&database).unwrap();
        let Fate::Committed(known) = commits.fate(&committed) else { panic!("it was committed") };
        assert!(known.sequence >= position.sequence);
        assert_eq!(commits.fate(&open_session), Fate::NotCommitted);
        assert_eq!(commits.fate("x"), Fate::Unknown);
    }

    #[test]
    fn what_is_forgotten_is_not_denied() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), &HostOptions::default()).unwrap();
        let mut commits = Commits::load(&database).unwrap();
        let position = database.position().unwrap();
        let early = commits.name();
        commits.keep(1, early.clone(), Some(position));
        let open_session = commits.name();
        for number in 2..=KEPT {
            commits.keep(number, format!("x.{number}"), Some(position));
        }
        assert_eq!(commits.fate(&early), Fate::Committed(position));
        commits.keep(KEPT + 1, "x.x".to_owned(), Some(position));
        assert_eq!(commits.fate(&early), Fate::Forgotten);
        assert_eq!(commits.fate(&open_session), Fate::NotCommitted);
        commits.keep(KEPT + 2, "x.y".to_owned(), Some(position));
        assert_eq!(commits.fate(&open_session), Fate::Forgotten);
    }
}
