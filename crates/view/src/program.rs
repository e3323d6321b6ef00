//! The statements that keep a view, and when each runs.

use crate::block::Planner;
use crate::slices::{self, Sliced, Slices};
use crate::{BaseRelation, Catalog, CreateView, Dialect, Error, Explain, Stored, ViewDefinition, compose};

/// When a step runs; see the batch protocol at the top of this crate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before this base table takes the batch's rows.
    Before(String),
    /// After this base table took them.
    After(String),
    /// After all bases.
    Finish,
}

/// One statement of a batch, and when it can be left out: most batches touch a part of what a program provides for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// A single statement.
    pub sql: String,
    /// Lists of tables of the batch: if in one of the lists no table has rows, the statement changes nothing.
    needs: Vec<Vec<String>>,
    /// If one of these has rows, another statement does it.
    unless: Vec<String>,
    /// Which of two statements it is, for people.
    when: Option<&'static str>,
    /// The table of the batch that it fills.
    pub fills: Option<String>,
}

impl Action {
    /// A statement that always runs.
    pub(crate) fn always(sql: String) -> Self {
        Self { sql, needs: vec![], unless: vec![], when: None, fills: None }
    }

    /// A statement that does nothing where none of these tables has rows.
    #[must_use]
    pub fn over(tables: &[String], sql: String) -> Self {
        Self::always(sql).and(tables)
    }

    /// And nothing either where none of these has.
    pub(crate) fn and(mut self, tables: &[String]) -> Self {
        self.needs.push(tables.to_vec());
        self
    }

    pub(crate) fn unless(mut self, tables: &[String]) -> Self {
        self.unless = tables.to_vec();
        self
    }

    pub(crate) fn when(mut self, when: &'static str) -> Self {
        self.when = Some(when);
        self
    }

    /// The statement as people read it.
    pub(crate) fn shown(&self) -> String {
        self.when.map_or_else(|| self.sql.clone(), |when| format!("{} -- where {when}", self.sql))
    }

    /// One, or none where the statement runs in place of another.
    pub(crate) fn counted(&self) -> usize {
        usize::from(self.unless.is_empty())
    }

    pub(crate) fn filling(mut self, table: &str) -> Self {
        self.fills = Some(table.to_owned());
        self
    }

    /// Lists of tables of the batch: each must have one with rows, else the statement changes nothing.
    #[must_use]
    pub fn needs(&self) -> &[Vec<String>] {
        &self.needs
    }

    /// Tables of the batch none of which may have rows: else another statement does it.
    #[must_use]
    pub fn excludes(&self) -> &[String] {
        &self.unless
    }

    /// Whether it has to run, where `has_rows` tells it of a table of the batch.
    #[must_use]
    pub fn applies(&self, has_rows: impl Fn(&str) -> bool) -> bool {
        self.needs.iter().all(|tables| tables.iter().any(|table| has_rows(table)))
            && !self.unless.iter().any(|table| has_rows(table))
    }
}

/// An action and its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When it runs.
    pub phase: Phase,
    /// A statement without parameters.
    pub action: Action,
}

impl Step {
    pub(crate) fn finish(action: Action) -> Self {
        Self { phase: Phase::Finish, action }
    }
}

/// Everything a replica runs for one view. Each string is a single statement.
#[derive(Debug, Clone)]
pub struct Program {
    /// The view.
    pub definition: ViewDefinition,
    /// Qualified names of the tables of its before and after images.
    pub images: [String; 2],
    /// Durable tables and indexes, `IF NOT EXISTS`.
    pub create: Vec<String>,
    /// Tables for the rows of a batch, `IF NOT EXISTS`: TEMP ones, once per connection, or unlogged ones.
    pub connect: Vec<String>,
    /// Fills the (empty) storage from the bases as they stand. Records no changes.
    pub fill: Vec<String>,
    /// Empties what `fill` fills.
    pub empty: Vec<String>,
    /// Steps of a batch, in order within each phase.
    pub maintain: Vec<Step>,
    /// Writes the storage from the view's old and new images.
    pub apply: Vec<Action>,
    /// Appends the view's changes to `__deltamesh_changes`. What they are stamped with is bound as `:position`, `:dsid` and
    /// `:captured_us`; in PostgreSQL it is in variables `__deltamesh_position` and so on of the function that runs this, and
    /// `__deltamesh_json` and `__deltamesh_token` spell the values.
    pub record: Vec<Action>,
    /// Empties the view's tables of a batch at the end of a batch.
    pub clear: Vec<Action>,
    /// Removes what `create` and `connect` made, except the indexes on bases.
    pub drop: Vec<String>,
    /// The view's own `SELECT` over its bases: at every commit equal to `SELECT * FROM` the view, as a multiset.
    pub oracle: String,
    /// How the view is maintained, for people.
    pub explain: Explain,
    /// How it is filled a part at a time.
    pub slices: Slices,
    /// What its last block says of that.
    pub(crate) sliced: Sliced,
}

/// Qualified names of the tables of before and after images of a base table or a view.
#[must_use]
pub fn image_tables(dialect: Dialect, table: &str) -> [String; 2] {
    [old_table(table), new_table(table)].map(|name| dialect.batch_table(&name))
}

/// Name of the TEMP table of before images of a base table (unquoted).
#[must_use]
pub fn old_table(table: &str) -> String {
    format!("old__{table}")
}

/// Name of the TEMP table of after images of a base table (unquoted).
#[must_use]
pub fn new_table(table: &str) -> String {
    format!("new__{table}")
}

/// Plans the maintenance of a view.
///
/// # Errors
/// An unknown relation or column, a construct that cannot be maintained, a key that does not identify rows: with its
/// place in the text and what to write instead.
pub fn plan(statement: &CreateView, catalog: &Catalog, dialect: Dialect) -> Result<Program, Error> {
    if catalog.has_table(&statement.name) && !catalog.is_view(&statement.name) {
        let message = format!("{} is the table of a relation: choose another name", statement.name);
        return Err(Error::definition(message, statement.location));
    }
    let mut planner = Planner::new(statement, catalog.with_dialect(dialect));
    let mut main = statement.clone();
    if main.options.stored == Stored::Auto && catalog.keeps_rows(&statement.name) {
        main.options.stored = Stored::Always;
    }
    let main = planner.program(main)?;
    let mut program = compose::compose(planner.parts, main, dialect);
    program.definition.options.stored = statement.options.stored;
    program.slices = slices::found(program.slices, catalog, &program.definition);
    program.explain.notes.extend(program.slices.note());
    let is_itself =
        |base: &BaseRelation| base.source.is_none() && base.relation.eq_ignore_ascii_case(&statement.name);
    if program.definition.bases.iter().any(is_itself) {
        let message = format!("{} would read itself", statement.name);
        return Err(Error::definition(message, statement.location));
    }
    Ok(program)
}
