//! Comparing a next view with the one whose place it takes, beside the flow of changes (ADR 18).
//!
//! The last transaction of a replacement needs the rows that differ. The keys of those that may are noted in a table: first every
//! key that a batch touches in one of the views, and beside that, slice by slice, the keys of the rows that differ. The
//! transaction then reads what has been noted.

use deltamesh_change::{Column, ColumnType};
use deltamesh_view::{Action, Dialect, Program, ViewDefinition};

use super::Maintainer;
use super::cell::Cell;
use super::database::Database;
use super::delta::{Failure, of_view};
use super::difference::places;
use super::mirror::{durable, quote};
use super::state::{State, View};
use super::views::same_shape;
use crate::error::Result;

/// How far two views have been compared.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Qualified name of the table of keys.
    table: String,
    /// Quoted names and types of its columns.
    key: Vec<(String, ColumnType)>,
    stage: Stage,
    /// The last key of the slice before.
    behind: Option<Vec<Cell>>,
}

/// What the slices are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Rows of the former view: those that are gone or differ.
    Former,
    /// Rows of the next one: those that are new.
    Next,
    Done,
}

fn differ_table(dialect: Dialect, stem: &str) -> String {
    durable(dialect, &format!("__deltamesh_differ_{stem}"))
}

/// Whether the tables of both have the same columns.
pub(super) fn is_comparable(former: &ViewDefinition, next: &ViewDefinition) -> bool {
    same_shape(former, next) && (former.stored == next.stored || next.hidden.is_empty())
}

/// The columns of a view's key where its table has an order by them.
fn table_key(definition: &ViewDefinition) -> Option<Vec<(String, ColumnType)>> {
    let hidden = definition.hidden.iter().map(|hidden| &hidden.column);
    let columns: Vec<&Column> = definition.columns.iter().chain(hidden).collect();
    let key = definition.key.iter().map(|name| {
        let column = columns.iter().find(|column| column.name == *name && !column.nullable)?;
        Some((quote(name), column.column_type))
    });
    let key: Vec<_> = key.collect::<Option<_>>()?;
    (definition.stored && !key.is_empty()).then_some(key)
}

impl Comparison {
    fn new(dialect: Dialect, stem: &str, key: Vec<(String, ColumnType)>) -> Self {
        Self { table: differ_table(dialect, stem), key, stage: Stage::Former, behind: None }
    }

    fn names(&self, prefix: &str) -> String {
        self.key.iter().map(|(name, _)| format!("{prefix}{name}")).collect::<Vec<_>>().join(", ")
    }

    fn same(&self, left: &str, right: &str) -> String {
        let pairs = self.key.iter().map(|(name, _)| format!("{left}.{name} = {right}.{name}"));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// SQLite keeps keys as they are where no type is declared.
    fn create(&self, dialect: Dialect) -> String {
        let declared = self.key.iter().map(|(name, kind)| match dialect {
            Dialect::Sqlite => name.clone(),
            Dialect::Postgres => format!("{name} {}", dialect.declared_type(*kind).unwrap_or_default()),
        });
        let declared = declared.collect::<Vec<_>>().join(", ");
        let tail = if dialect == Dialect::Sqlite { " WITHOUT ROWID" } else { "" };
        format!("CREATE TABLE {} ({declared}, PRIMARY KEY ({})){tail}", self.table, self.names(""))
    }

    /// Notes the keys of a batch's images.
    fn note(&self, program: &Program) -> [Action; 2] {
        program.images.each_ref().map(|images| {
            let (table, key) = (&self.table, self.names(""));
            let sql = format!(
                "INSERT INTO {table} ({key}) SELECT {key} FROM {images} WHERE TRUE ON CONFLICT DO NOTHING"
            );
            Action::over(std::slice::from_ref(images), sql)
        })
    }

    /// The columns of the rows that have been noted, from a table.
    pub(super) fn noted(&self, columns: &[String], rows: &str) -> String {
        let noted = self.same("noted", "kept");
        let columns = columns.iter().map(|column| format!("kept.{column}")).collect::<Vec<_>>().join(", ");
        format!("SELECT {columns} FROM {} AS noted CROSS JOIN {rows} AS kept WHERE {noted}", self.table)
    }
}

impl State {
    /// The comparison that a next view begins with; none where the rows are compared at once, at the end.
    fn comparison(&self, next: &View, dialect: Dialect) -> Option<Comparison> {
        let former = self.view(&next.definition.name)?;
        let key = table_key(&next.definition).filter(|_| former.definition.stored)?;
        let is_due = next.is_next() && is_comparable(&former.definition, &next.definition);
        is_due.then(|| Comparison::new(dialect, next.table(), key))
    }

    /// Whether nothing is left to be compared.
    pub(super) fn is_compared(&self, next: &View, dialect: Dialect) -> bool {
        match &next.compared {
            Some(comparison) => comparison.stage == Stage::Done,
            None => self.comparison(next, dialect).is_none(),
        }
    }

    /// The first next view that has all its rows, with all that it waits for, and is to be compared.
    pub(super) fn to_compare(&self, dialect: Dialect) -> Option<&View> {
        let is_filled = |view: &View| self.awaited_views(view).iter().all(|view| view.is_filled());
        let mut next = self.views.iter().filter(|view| view.is_next());
        next.find(|view| is_filled(view) && !self.is_compared(view, dialect))
    }

    /// What notes the keys of a view's images, while it or what takes its place is compared.
    pub(super) fn noting(&self, view: &View) -> Option<[Action; 2]> {
        let next = if view.is_next() { Some(view) } else { self.next_of(&view.name) };
        Some(next?.compared.as_ref()?.note(view.program.as_ref()?))
    }

    /// Takes up the comparisons that have been begun.
    pub(super) fn resume_comparisons<D: Database>(&mut self, database: &D) -> Result<()> {
        for index in 0..self.views.len() {
            let view = &self.views[index];
            let is_begun = || database.object(&format!("__deltamesh_differ_{}", view.table()));
            if view.is_next() && is_begun()?.is_some() {
                let comparison = self.comparison(view, D::DIALECT);
                self.views[index].compared = comparison;
            }
        }
        Ok(())
    }
}

impl<D: Database> Maintainer<D> {
    /// Compares the next rows of one view; gives the names of the views that are replaced by it.
    pub(super) fn compare_slice(&mut self) -> std::result::Result<Vec<String>, Failure> {
        let Some(next) = self.state.to_compare(D::DIALECT) else { return Ok(vec![]) };
        let name = next.name.clone();
        let Some(former) = self.state.view(&next.definition.name) else { return Ok(vec![]) };
        let tables = [&former.definition.storage, &next.definition.storage].map(Clone::clone);
        let Some(comparison) = &next.compared else {
            let begun = self.state.comparison(next, D::DIALECT);
            let create = begun.iter().map(|begun| begun.create(D::DIALECT)).collect::<Vec<_>>();
            of_view(&name, self.database.define(&name, &create))?;
            self.set_comparison(&name, begun);
            return Ok(vec![]);
        };
        let columns = next.definition.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>();
        let (stage, behind) = of_view(&name, self.note_slice(comparison, &tables, &columns))?;
        let view = self.state.views.iter_mut().find(|view| view.name == name);
        if let Some(comparison) = view.and_then(|view| view.compared.as_mut()) {
            (comparison.stage, comparison.behind) = (stage, behind);
        }
        if stage == Stage::Done { self.replace_complete() } else { Ok(vec![]) }
    }

    fn set_comparison(&mut self, name: &str, comparison: Option<Comparison>) {
        if let Some(view) = self.state.views.iter_mut().find(|view| view.name == name) {
            view.compared = comparison;
        }
    }

    /// Notes the keys of one slice whose rows are not in the other table, or differ there; gives where to go on.
    fn note_slice(
        &self,
        comparison: &Comparison,
        [former, next]: &[String; 2],
        columns: &[String],
    ) -> Result<(Stage, Option<Vec<Cell>>)> {
        let Comparison { table, key, stage, behind } = comparison;
        let (rows, other, then) = match stage {
            Stage::Former => (former, next, Stage::Next),
            Stage::Next => (next, former, Stage::Done),
            Stage::Done => return Ok((Stage::Done, None)),
        };
        let Some(end) = self.slice_end(rows, key, behind.as_deref(), self.slices.compared())? else {
            return Ok((then, None));
        };
        let same = if D::DIALECT == Dialect::Postgres { "IS NOT DISTINCT FROM" } else { "IS" };
        let values = columns.iter().map(|name| format!(" AND other.{name} {same} mine.{name}"));
        // The second time those that are in both have been compared.
        let values = if *stage == Stage::Former { values.collect() } else { String::new() };
        let mut condition = format!("({}) <= ({})", comparison.names("mine."), places::<D>(key, 1));
        if behind.is_some() {
            let behind = places::<D>(key, key.len() + 1);
            condition.push_str(&format!(" AND ({}) > ({behind})", comparison.names("mine.")));
        }
        let sql = format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {} AS mine WHERE {condition}
               AND NOT EXISTS (SELECT 1 FROM {} AS other WHERE {}{values}) ON CONFLICT DO NOTHING",
            comparison.names(""),
            comparison.names("mine."),
            durable(D::DIALECT, rows),
            durable(D::DIALECT, other),
            comparison.same("other", "mine"),
        );
        let parameters = [end.as_slice(), behind.as_deref().unwrap_or_default()].concat();
        self.database.execute(rows, &sql, &parameters)?;
        Ok((*stage, Some(end)))
    }

    /// Gives a comparison up: its view goes another way, or has its place.
    pub(super) fn end_comparison(&mut self, next: &str) -> Result<()> {
        let view = self.state.views.iter_mut().find(|view| view.name == next);
        let Some(view) = view else { return Ok(()) };
        view.compared = None;
        let drop = format!("DROP TABLE IF EXISTS {}", differ_table(D::DIALECT, view.table()));
        self.database.define(next, &[drop])
    }
}
