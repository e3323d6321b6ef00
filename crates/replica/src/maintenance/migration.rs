//! The migrations of modules: each file once, in order, in one transaction with its record.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use deltamesh_view::{MigrationAction, MigrationStep, OwnKind, Statement, parse_migration};

use super::Maintainer;
use super::cell::Cell;
use super::database::{Database, Read};
use super::delta::Failure;
use super::mirror::quote;
use super::owned::Owned;
use super::state::{Columns, plan_error};
use crate::error::{Error, ErrorKind, Result};
use crate::replica::{Migrated, Migration};

/// A migration that was applied.
#[derive(Debug)]
pub(crate) struct Recorded {
    module: String,
    sql: String,
}

/// The applied migrations in their order, and what they have made.
pub(crate) fn recorded(read: &dyn Read) -> Result<(Vec<Recorded>, Owned)> {
    let sql = "SELECT module, name, sql FROM __deltamesh_migrations ORDER BY id";
    let (mut migrations, mut owned) = (Vec::new(), Owned::default());
    for row in read.rows("read migrations", sql, &[])? {
        let mut row = Columns::new(row);
        let (module, name, sql) = (row.text(), row.text(), row.text());
        let by = format!("{module}/{name}");
        let steps = parse_migration(&sql).map_err(|error| {
            let reason = "this version cannot read what an earlier one has applied";
            Error::new(ErrorKind::Version, format!("migration {by}"), reason).caused_by(error)
        })?;
        steps.iter().for_each(|step| owned.note(&step.action, &by));
        migrations.push(Recorded { module, sql });
    }
    Ok((migrations, owned))
}

impl<D: Database> Maintainer<D> {
    /// Applies the first of a module's migrations that is not applied yet.
    pub(super) fn apply_migration(
        &mut self,
        module: &str,
        migrations: &[Migration],
    ) -> std::result::Result<Option<Migrated>, Failure> {
        let applied = self.state.migrations.iter().filter(|recorded| recorded.module == module);
        let number = applied.clone().count();
        if let Some((_, other)) = applied.zip(migrations).find(|(known, given)| known.sql != given.sql) {
            let reason = "1:1: was applied with another text: put that back (column sql of __deltamesh_migrations), \
                          and write the change as a further migration";
            return Err(Error::new(ErrorKind::Conflict, &other.path, reason).into());
        }
        let Some(next) = migrations.get(number) else { return Ok(None) };
        let started = Instant::now();
        let steps = parse_migration(&next.sql).map_err(|error| plan_error(&next.path, &error))?;
        let by = format!("{module}/{}", next.path);
        let mut views = Vec::new();
        for step in &steps {
            let done = self.run_step(step, &by, &mut views);
            done.map_err(|failure| placed(failure, step, &next.path))?;
        }
        self.record_migration(module, number + 1, next, started)?;
        tracing::info!(module, migration = next.path, "migration is applied");
        Ok(Some(Migrated { path: next.path.clone(), views }))
    }

    fn run_step(
        &mut self,
        step: &MigrationStep,
        by: &str,
        views: &mut Vec<String>,
    ) -> std::result::Result<(), Failure> {
        match &step.action {
            MigrationAction::View(statement) => {
                if let Statement::Create(create) = statement {
                    self.check_free(&create.name)?;
                }
                views.extend(self.run_statement(statement)?);
                self.settle_owned()?;
            }
            MigrationAction::Create { object, name, sql } => {
                self.check_unused(name)?;
                match object {
                    OwnKind::View => self.make_view(name, sql)?,
                    _ => self.database.define(name, std::slice::from_ref(sql))?,
                }
            }
            MigrationAction::Index(index) => {
                self.check_unused(&index.name)?;
                self.make_index(index)?;
            }
            MigrationAction::Drop { object, name, if_exists } => {
                let known = self.state.owned.get(name).filter(|known| known.kind == *object);
                if known.is_none() && !if_exists {
                    return Err(self.not_owned(*object, name).into());
                }
                if known.is_some() {
                    let sql = format!("DROP {} IF EXISTS {}", object.word(), quote(name));
                    self.database.define(name, &[sql])?;
                }
            }
            MigrationAction::Change { table, sql } => {
                if !self.state.owned.is_table(table) {
                    return Err(self.not_owned(OwnKind::Table, table).into());
                }
                self.database.define(table, std::slice::from_ref(sql))?;
            }
        }
        self.state.owned.note(&step.action, by);
        Ok(())
    }

    fn not_owned(&self, kind: OwnKind, name: &str) -> Error {
        let place = format!("{} {name}", kind.word().to_lowercase());
        let reason = match self.state.view(name) {
            Some(_) => "is a materialized view, which always equals its SQL: nothing else writes it",
            None => "was made by no migration of this replica",
        };
        Error::new(ErrorKind::NotFound, place, reason)
    }

    /// Refuses a name that an object of a migration has.
    pub(super) fn check_free(&self, name: &str) -> Result<()> {
        match self.state.owned.get(name) {
            Some(known) => {
                let reason = format!("exists already, made by {}", known.by);
                Err(Error::new(ErrorKind::Conflict, format!("name {name}"), reason))
            }
            None => Ok(()),
        }
    }

    /// Refuses a name that a view or an object of a migration has.
    fn check_unused(&self, name: &str) -> Result<()> {
        self.check_free(name)?;
        match self.state.view(name) {
            Some(_) => {
                let reason = "exists already, as a materialized view";
                Err(Error::new(ErrorKind::Conflict, format!("name {name}"), reason))
            }
            None => Ok(()),
        }
    }

    fn record_migration(
        &mut self,
        module: &str,
        number: usize,
        migration: &Migration,
        started: Instant,
    ) -> Result<()> {
        let micros = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sql = "INSERT INTO __deltamesh_migrations (id, module, number, name, sql, applied_us, took_us)
                   VALUES ((SELECT coalesce(max(id), 0) + 1 FROM __deltamesh_migrations), $1, $2, $3, $4, $5, $6)";
        let values = [
            Cell::Text(module.to_owned()),
            Cell::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
            Cell::Text(migration.path.clone()),
            Cell::Text(migration.sql.clone()),
            Cell::Integer(micros(now)),
            Cell::Integer(micros(started.elapsed())),
        ];
        self.database.execute(&format!("record {}", migration.path), sql, &values)?;
        self.state.migrations.push(Recorded { module: module.to_owned(), sql: migration.sql.clone() });
        Ok(())
    }
}

/// An error of a statement with the file as its place, and line and column in front of its reason.
fn placed(failure: Failure, step: &MigrationStep, path: &str) -> Failure {
    let (Failure::View(_, error) | Failure::Other(error)) = failure;
    let has_place = || {
        let mut numbers = error.reason().splitn(3, ':');
        let mut is_number = || numbers.next().is_some_and(|number| number.parse::<u64>().is_ok());
        is_number() && is_number()
    };
    let reason = match error.kind() {
        ErrorKind::Plan if has_place() => error.reason().to_owned(),
        _ => format!("{}: {error}", step.location),
    };
    Failure::Other(Error::new(error.kind(), path, reason).caused_by(error))
}
