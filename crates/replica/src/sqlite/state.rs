//! What the writer knows of the replica: checkpoints, mirrors, views. Read at the start, and again after a rollback.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltamesh_change::{EnginePosition, RelationSchema, SourcePosition};
use deltamesh_view::{
    Catalog, CreateView, Dialect, Program, Statement, ViewDefinition, mirror_table, parse_statements, plan,
};
use rusqlite::{Connection, OptionalExtension as _};

use super::mirror::Mirror;
use crate::error::{At, Error, ErrorKind, Result};
use crate::group::Checkpoint;

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
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) checkpoints: BTreeMap<String, Checkpoint>,
    /// By table name.
    pub(crate) mirrors: BTreeMap<String, Mirror>,
    /// In order of creation.
    pub(crate) views: Vec<View>,
    /// Every change up to here is in the feed stream, as far as the file knows.
    pub(crate) published: u64,
    /// Sequence of the newest change.
    pub(crate) last_sequence: u64,
}

impl State {
    /// Reads the state, plans the views again and makes the connection's TEMP tables.
    ///
    /// The second result names the views whose program is not the one that made their tables: a newer planner. They have
    /// to be built again.
    pub(crate) fn load(connection: &Connection) -> Result<(Self, Vec<String>)> {
        let mut state = Self {
            checkpoints: checkpoints(connection)?,
            published: meta(connection, "published")?,
            last_sequence: last_sequence(connection)?,
            ..Self::default()
        };
        for (source, schema) in relations(connection)? {
            let mirror = Mirror::new(&source, schema);
            execute_all(connection, &mirror.connect(), &mirror.table)?;
            state.mirrors.insert(mirror.table.clone(), mirror);
        }
        let mut outdated = Vec::new();
        for (mut view, recorded) in views(connection)? {
            if view.fault.is_none() {
                match plan_text(&view.sql, &state.catalog()) {
                    Ok(program) if fingerprint(&program) == recorded => {
                        execute_all(connection, &program.connect, &view.name)?;
                        view.program = Some(program);
                    }
                    Ok(_) => outdated.push(view.name.clone()),
                    Err(error) => view.fault = Some(error.reason().to_owned()),
                }
            }
            state.views.push(view);
        }
        Ok((state, outdated))
    }

    /// What SQL may refer to: the mirrors and the maintained views.
    pub(crate) fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::new();
        for mirror in self.mirrors.values() {
            catalog.add_relation(&mirror.source, &mirror.schema);
        }
        for view in self.views.iter().filter(|view| view.program.is_some()) {
            catalog.add_view(&view.definition);
        }
        catalog
    }

    pub(crate) fn view(&self, name: &str) -> Option<&View> {
        self.views.iter().find(|view| view.name.eq_ignore_ascii_case(name))
    }

    /// The mirror whose name only case tells from that of a relation: SQL takes the two for one.
    pub(crate) fn other_case(&self, source: &str, relation: &str) -> Option<&Mirror> {
        let table = mirror_table(source, relation);
        self.mirrors
            .values()
            .find(|mirror| mirror.table != table && mirror.table.eq_ignore_ascii_case(&table))
    }

    /// Views that read one of the tables, directly or through other views, in order of creation.
    pub(crate) fn dependents(&self, tables: &[String]) -> Vec<String> {
        let mut tables = tables.to_vec();
        let mut names = Vec::new();
        for view in &self.views {
            let reads = view.definition.bases.iter().any(|base| tables.contains(&base.table));
            if reads {
                tables.push(view.name.clone());
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

/// Runs statements that have no parameters and no rows.
pub(crate) fn execute_all(connection: &Connection, statements: &[String], place: &str) -> Result<()> {
    for sql in statements {
        connection.execute(sql, []).at(|| place)?;
    }
    Ok(())
}

/// Parses and plans a text that holds one `CREATE MATERIALIZED VIEW`.
pub(crate) fn plan_text(sql: &str, catalog: &Catalog) -> Result<Program> {
    let refused = |error: deltamesh_view::Error| plan_error("view", &error);
    let mut creates =
        parse_statements(sql).map_err(refused)?.into_iter().filter_map(|statement| match statement {
            Statement::Create(create) => Some(*create),
            Statement::Drop(_) => None,
        });
    match (creates.next(), creates.next()) {
        (Some(create), None) => plan_view(&create, catalog),
        _ => Err(Error::new(ErrorKind::Plan, "view", "text is not one CREATE MATERIALIZED VIEW")),
    }
}

/// Plans one view.
pub(crate) fn plan_view(create: &CreateView, catalog: &Catalog) -> Result<Program> {
    plan(create, catalog, Dialect::Sqlite)
        .map_err(|error| plan_error(&format!("view {}", create.name), &error))
}

pub(crate) fn plan_error(place: &str, error: &deltamesh_view::Error) -> Error {
    Error::new(ErrorKind::Plan, place, error.to_string())
}

/// Names the statements that made a view's durable tables. A program with another fingerprint needs a new build.
pub(crate) fn fingerprint(program: &Program) -> String {
    let texts = program.create.iter().chain(&program.fill);
    let hash = texts.flat_map(|text| text.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

pub(crate) fn meta(connection: &Connection, name: &str) -> Result<u64> {
    let sql = "SELECT value FROM __deltamesh_meta WHERE name = ?1";
    let value: Option<i64> =
        connection.query_row(sql, [name], |row| row.get(0)).optional().at(|| "read meta")?;
    Ok(value.map_or(0, i64::cast_unsigned))
}

pub(crate) fn incarnation(connection: &Connection) -> Result<String> {
    let sql = "SELECT value FROM __deltamesh_meta WHERE name = 'incarnation'";
    connection.query_row(sql, [], |row| row.get(0)).at(|| "read meta")
}

pub(crate) fn last_sequence(connection: &Connection) -> Result<u64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM __deltamesh_changes";
    let last: i64 = connection.query_row(sql, [], |row| row.get(0)).at(|| "read changes")?;
    Ok(last.cast_unsigned())
}

pub(crate) fn checkpoints(connection: &Connection) -> Result<BTreeMap<String, Checkpoint>> {
    let place = || "read checkpoints";
    let sql =
        "SELECT source, incarnation, ordinal, engine_sequence, engine_log, engine_offset, stream_sequence
               FROM __deltamesh_checkpoint";
    let mut statement = connection.prepare(sql).at(place)?;
    let rows = statement.query_map([], |row| {
        let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        let engine = EnginePosition { sequence: number(3)?, log: number(4)?, offset: number(5)? };
        let position = SourcePosition { incarnation: row.get(1)?, ordinal: number(2)?, engine };
        let source: String = row.get(0)?;
        Ok((source.clone(), Checkpoint { source, position, stream_sequence: number(6)? }))
    });
    rows.at(place)?.collect::<rusqlite::Result<_>>().at(place)
}

/// The current schema of every relation that has not been dropped.
pub(crate) fn relations(connection: &Connection) -> Result<Vec<(String, Arc<RelationSchema>)>> {
    let place = || "read schemas";
    let sql = "SELECT source, schema FROM __deltamesh_schema WHERE schema IS NOT NULL AND id IN
               (SELECT max(id) FROM __deltamesh_schema GROUP BY source, relation) ORDER BY id";
    let mut statement = connection.prepare(sql).at(place)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    let mut relations = Vec::new();
    for row in rows.at(place)? {
        let (source, text) = row.at(place)?;
        relations.push((source, Arc::new(stored_json(&text, "schema")?)));
    }
    Ok(relations)
}

/// The recorded views with the fingerprint of the program that made their tables.
pub(crate) fn views(connection: &Connection) -> Result<Vec<(View, String)>> {
    let place = || "read views";
    let sql = "SELECT name, position, module, sql, definition, program, fault FROM __deltamesh_views ORDER BY position";
    let mut statement = connection.prepare(sql).at(place)?;
    let mut rows = statement.query([]).at(place)?;
    let mut views = Vec::new();
    while let Some(row) = rows.next().at(place)? {
        let definition: String = row.get(4).at(place)?;
        let view = View {
            name: row.get(0).at(place)?,
            position: row.get(1).at(place)?,
            module: row.get(2).at(place)?,
            sql: row.get(3).at(place)?,
            definition: stored_json(&definition, "view definition")?,
            program: None,
            fault: row.get(6).at(place)?,
        };
        views.push((view, row.get(5).at(place)?));
    }
    Ok(views)
}

fn stored_json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(ErrorKind::Corrupt, format!("read {what}"), "not the expected JSON").caused_by(error)
    })
}
