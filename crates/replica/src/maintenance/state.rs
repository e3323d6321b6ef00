//! What the writer knows of the replica: checkpoints, mirrors, views. Read at the start, and again after a rollback.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltamesh_change::{EnginePosition, RelationSchema, SourcePosition};
use deltamesh_view::{
    BaseRelation, Catalog, CreateView, Dialect, Index, Program, Statement, ViewDefinition, mirror_table,
    parse_statements, plan,
};

use super::cell::Cell;
use super::compare::Comparison;
use super::database::{Database, Read};
use super::fed::{self, Fed};
use super::fill::{FILLING, Slices};
use super::migration::{self, Recorded};
use super::mirror::Mirror;
use super::owned::Owned;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Checkpoint;
use crate::replica::Progress;

/// A view as it is recorded, with its program where it is maintained.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: String,
    /// Order of creation: a view stands behind the views that it reads.
    pub(crate) position: i64,
    pub(crate) module: String,
    pub(crate) sql: String,
    pub(crate) definition: ViewDefinition,
    /// Missing while the view is faulted.
    pub(crate) program: Option<Program>,
    pub(crate) fault: Option<String>,
    /// While it is being filled: the program is over this.
    pub(crate) fed: Option<Fed>,
    /// While a next view is compared with the one whose place it takes.
    pub(crate) compared: Option<Comparison>,
}

impl View {
    /// Whether it is recorded as one that does not have all its rows yet.
    pub(crate) fn is_filling(&self) -> bool {
        self.fault.as_deref() == Some(FILLING)
    }

    /// Whether it is maintained, over all rows of what it reads.
    pub(crate) fn is_filled(&self) -> bool {
        self.fed.is_none() && self.program.is_some()
    }

    /// Whether it is to take the place of the view of its definition's name.
    pub(crate) fn is_next(&self) -> bool {
        self.name != self.definition.name
    }

    /// Name by which programs over it know it.
    pub(crate) fn table(&self) -> &str {
        self.definition.stem()
    }

    /// Tables of the views that it reads.
    fn upstream(&self) -> impl Iterator<Item = &str> {
        let bases = self.definition.bases.iter().filter(|base| base.source.is_none());
        bases.map(|base| base.table.as_str())
    }

    /// Whether it reads a view.
    pub(crate) fn reads(&self, view: &Self) -> bool {
        self.upstream().any(|table| table == view.table())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) checkpoints: BTreeMap<String, Checkpoint>,
    /// By table name.
    pub(crate) mirrors: BTreeMap<String, Mirror>,
    /// In order of creation.
    pub(crate) views: Vec<View>,
    /// Indexes on bases of views that came, changed or went in this transaction.
    pub(crate) unsettled: Vec<Index>,
    /// Indexes that are made with the first change of a relation.
    pub(crate) awaited: Vec<Index>,
    /// In order of application.
    pub(crate) migrations: Vec<Recorded>,
    /// What they have made.
    pub(crate) owned: Owned,
    /// Every change up to here is in the feed stream, as far as the replica knows.
    pub(crate) published: u64,
    /// Sequence of the newest change.
    pub(crate) last_sequence: u64,
}

impl State {
    /// Reads the state, plans the views again and makes the tables for rows of a batch.
    ///
    /// The second result names the views whose program is not the one that made their tables: a newer planner. They have
    /// to be built again.
    pub(crate) fn load<D: Database>(database: &D, slices: Slices) -> Result<(Self, Vec<String>)> {
        let mut state = Self {
            checkpoints: checkpoints(database)?,
            published: meta(database, "published")?,
            last_sequence: last_sequence(database)?,
            ..Self::default()
        };
        for (source, schema) in relations(database)? {
            let mirror = Mirror::new(&source, schema, D::DIALECT);
            database.define(&mirror.table, &mirror.connect())?;
            state.mirrors.insert(mirror.table.clone(), mirror);
        }
        let mut outdated = Vec::new();
        for (mut view, recorded) in views(database)? {
            let is_filling = view.is_filling();
            view.fault = view.fault.filter(|_| !is_filling);
            if view.fault.is_none() {
                let is_fed = is_filling && fed::is_left(database, view.table())?;
                match state.plan_known(&view, None, D::DIALECT) {
                    Ok(program) if fingerprint(&program) == recorded && is_fed => {
                        let (program, fed) = state.plan_fed(database, &view, slices)?;
                        (view.program, view.fed) = (Some(program), Some(fed));
                    }
                    Ok(program) if fingerprint(&program) == recorded => {
                        database.define(&view.name, &program.connect)?;
                        view.program = Some(program);
                    }
                    Ok(_) => outdated.push(view.name.clone()),
                    Err(error) => view.fault = Some(error.reason().to_owned()),
                }
            }
            state.views.push(view);
        }
        let (migrations, mut owned) = migration::recorded(database)?;
        owned.look(database, &state)?;
        (state.migrations, state.owned) = (migrations, owned);
        state.await_indexes(database)?;
        state.resume_comparisons(database)?;
        Ok((state, outdated))
    }

    /// What SQL may refer to: the mirrors and the maintained views, without these. Of a view that is being replaced it is the
    /// next one, unless the first is among what is read.
    pub(crate) fn catalog(&self, read: &[BaseRelation], without: &[String]) -> Catalog {
        let mut catalog = Catalog::new();
        for mirror in self.mirrors.values() {
            catalog.add_relation(&mirror.source, &mirror.schema);
        }
        let is_read =
            |view: &View| read.iter().any(|base| base.source.is_none() && base.table == view.table());
        let views = self.views.iter().filter(|view| view.program.is_some());
        for view in views.filter(|view| !names(without, &view.definition.name)) {
            // Also where the next one is faulted: who reads it cannot go back to the other.
            let mut others = self.views.iter().filter(|other| other.name != view.name);
            let other = others.find(|other| other.definition.name == view.definition.name);
            let is_meant = match other {
                None => true,
                Some(other) => is_read(view) || (view.is_next() && !is_read(other)),
            };
            if is_meant {
                catalog.add_view(&view.definition);
            }
        }
        catalog
    }

    /// Plans a recorded view as it is; over one relation as it is fed with it.
    pub(crate) fn plan_known(&self, view: &View, fed: Option<&Fed>, dialect: Dialect) -> Result<Program> {
        let mut catalog = self.catalog(&view.definition.bases, std::slice::from_ref(&view.definition.name));
        if view.definition.stored {
            catalog.keep_rows(&view.definition.name);
        }
        if let Some(fed) = fed {
            catalog.read_from(&fed.table, &fed.mirror.table);
        }
        plan_as(&view.sql, view.definition.stem.clone(), &catalog, dialect)
    }

    /// A view by its name, or by that under which the next one is recorded.
    pub(crate) fn view(&self, name: &str) -> Option<&View> {
        self.views.iter().find(|view| view.name.eq_ignore_ascii_case(name))
    }

    /// The name of a recorded view for people.
    pub(crate) fn shown(&self, name: &str) -> Option<String> {
        self.view(name).map(|view| view.definition.name.clone())
    }

    /// The view that programs over it know by that name.
    pub(crate) fn by_table(&self, table: &str) -> Option<&View> {
        self.views.iter().find(|view| view.table() == table)
    }

    /// The mirror whose name only case tells from that of a relation: SQL takes the two for one.
    pub(crate) fn other_case(&self, source: &str, relation: &str) -> Option<&Mirror> {
        let table = mirror_table(source, relation);
        self.mirrors
            .values()
            .find(|mirror| mirror.table != table && mirror.table.eq_ignore_ascii_case(&table))
    }

    /// How far a view is filled, or the first of those that it waits for.
    pub(crate) fn filling(&self, view: &View) -> Option<Progress> {
        self.awaited_views(view).into_iter().find_map(|view| view.fed.as_ref().map(Fed::progress))
    }

    /// Views that read one of the tables, directly or through other views, in order of creation.
    pub(crate) fn dependents(&self, tables: &[String]) -> Vec<String> {
        let mut tables = tables.to_vec();
        let mut names = Vec::new();
        for view in &self.views {
            let reads = view.definition.bases.iter().any(|base| tables.contains(&base.table));
            if reads {
                tables.push(view.table().to_owned());
                names.push(view.name.clone());
            }
        }
        names
    }

    /// The position text of all sources, for changes that follow from none in particular.
    pub(crate) fn positions(&self) -> String {
        let positions = self.checkpoints.values();
        let positions = positions.map(|checkpoint| format!("{}={}", checkpoint.source, checkpoint.position));
        positions.collect::<Vec<_>>().join(",")
    }

    /// Schema sequence id in force for a source.
    pub(crate) fn dsid(&self, source: &str) -> u64 {
        let mirrors = self.mirrors.values().filter(|mirror| mirror.source == source);
        mirrors.map(|mirror| mirror.schema.dsid).max().unwrap_or(0)
    }
}

/// Whether a name is among these; case does not count.
pub(crate) fn names(all: &[String], name: &str) -> bool {
    all.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Parses and plans a text that holds one `CREATE MATERIALIZED VIEW`.
pub(crate) fn plan_text(sql: &str, catalog: &Catalog, dialect: Dialect) -> Result<Program> {
    plan_as(sql, None, catalog, dialect)
}

/// The same, with tables whose names are made of another one.
pub(crate) fn plan_as(
    sql: &str,
    stem: Option<String>,
    catalog: &Catalog,
    dialect: Dialect,
) -> Result<Program> {
    let refused = |error: deltamesh_view::Error| plan_error("view", &error);
    let mut creates =
        parse_statements(sql).map_err(refused)?.into_iter().filter_map(|statement| match statement {
            Statement::Create(create) => Some(*create),
            Statement::Drop(_) => None,
        });
    match (creates.next(), creates.next()) {
        (Some(mut create), None) => {
            create.stem = stem;
            plan_view(&create, catalog, dialect)
        }
        _ => Err(Error::new(ErrorKind::Plan, "view", "text is not one CREATE MATERIALIZED VIEW")),
    }
}

/// Plans one view.
pub(crate) fn plan_view(create: &CreateView, catalog: &Catalog, dialect: Dialect) -> Result<Program> {
    plan(create, catalog, dialect).map_err(|error| plan_error(&format!("view {}", create.name), &error))
}

pub(crate) fn plan_error(place: &str, error: &deltamesh_view::Error) -> Error {
    Error::new(ErrorKind::Plan, place, error.to_string())
}

/// Names the statements that made a view's durable tables. A program with another fingerprint needs a new build.
pub(crate) fn fingerprint(program: &Program) -> String {
    let indexes = program.definition.indexes.iter().map(|index| &index.name);
    let texts = program.create.iter().chain(&program.fill).chain(indexes);
    let hash = texts.flat_map(|text| text.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

pub(crate) fn meta(read: &dyn Read, name: &str) -> Result<u64> {
    let sql = "SELECT value FROM __deltamesh_meta WHERE name = $1";
    let rows = read.rows("read meta", sql, &[Cell::Text(name.to_owned())])?;
    Ok(rows.first().and_then(|row| row.first()).map_or(0, |value| value.integer().cast_unsigned()))
}

pub(crate) fn incarnation(read: &dyn Read) -> Result<String> {
    let sql = "SELECT value FROM __deltamesh_meta WHERE name = 'incarnation'";
    let value = read.rows("read meta", sql, &[])?.into_iter().flatten().next();
    value.and_then(Cell::text).ok_or_else(|| Error::new(ErrorKind::Corrupt, "read meta", "no incarnation"))
}

pub(crate) fn last_sequence(read: &dyn Read) -> Result<u64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM __deltamesh_changes";
    let rows = read.rows("read changes", sql, &[])?;
    Ok(rows.first().and_then(|row| row.first()).map_or(0, |last| last.integer().cast_unsigned()))
}

/// The columns of one row, in order.
pub(crate) struct Columns(std::vec::IntoIter<Cell>);

impl Columns {
    pub(crate) fn new(row: Vec<Cell>) -> Self {
        Self(row.into_iter())
    }

    pub(crate) fn integer(&mut self) -> i64 {
        self.0.next().map_or(0, |cell| cell.integer())
    }

    pub(crate) fn unsigned(&mut self) -> u64 {
        self.integer().cast_unsigned()
    }

    pub(crate) fn maybe_text(&mut self) -> Option<String> {
        self.0.next().and_then(Cell::text)
    }

    pub(crate) fn text(&mut self) -> String {
        self.maybe_text().unwrap_or_default()
    }
}

pub(crate) fn checkpoints(read: &dyn Read) -> Result<BTreeMap<String, Checkpoint>> {
    let sql =
        "SELECT source, incarnation, ordinal, engine_sequence, engine_log, engine_offset, stream_sequence
               FROM __deltamesh_checkpoint";
    let rows = read.rows("read checkpoints", sql, &[])?.into_iter().map(|row| {
        let mut row = Columns::new(row);
        let (source, incarnation, ordinal) = (row.text(), row.text(), row.unsigned());
        let engine = EnginePosition { sequence: row.unsigned(), log: row.unsigned(), offset: row.unsigned() };
        let position = SourcePosition { incarnation, ordinal, engine };
        (source.clone(), Checkpoint { source, position, stream_sequence: row.unsigned() })
    });
    Ok(rows.collect())
}

/// The current schema of every relation that has not been dropped.
pub(crate) fn relations(read: &dyn Read) -> Result<Vec<(String, Arc<RelationSchema>)>> {
    let sql = "SELECT source, schema FROM __deltamesh_schema WHERE schema IS NOT NULL AND id IN
               (SELECT max(id) FROM __deltamesh_schema GROUP BY source, relation) ORDER BY id";
    let rows = read.rows("read schemas", sql, &[])?.into_iter().map(|row| {
        let mut row = Columns::new(row);
        Ok((row.text(), Arc::new(stored_json(&row.text(), "schema")?)))
    });
    rows.collect()
}

/// The recorded views with the fingerprint of the program that made their tables.
pub(crate) fn views(read: &dyn Read) -> Result<Vec<(View, String)>> {
    let sql = "SELECT name, position, module, sql, definition, program, fault FROM __deltamesh_views ORDER BY position";
    let rows = read.rows("read views", sql, &[])?.into_iter().map(|row| {
        let mut row = Columns::new(row);
        let view = View {
            name: row.text(),
            position: row.integer(),
            module: row.text(),
            sql: row.text(),
            definition: stored_json(&row.text(), "view definition")?,
            program: None,
            fault: None,
            fed: None,
            compared: None,
        };
        let fingerprint = row.text();
        Ok((View { fault: row.maybe_text(), ..view }, fingerprint))
    });
    rows.collect()
}

/// The recorded views that have all their rows: neither they nor those that they read are being filled, or to take the place
/// of others.
pub(crate) fn complete_views(read: &dyn Read) -> Result<Vec<View>> {
    let mut filling: Vec<View> = Vec::new();
    let mut complete = Vec::new();
    for (view, _) in views(read)? {
        if view.is_next() || view.is_filling() || filling.iter().any(|other| view.reads(other)) {
            filling.push(view);
        } else {
            complete.push(view);
        }
    }
    Ok(complete)
}

fn stored_json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Corrupt, format!("read {what}"), "not the expected JSON").caused_by(error)
    })
}
