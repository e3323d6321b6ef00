//! How a resolved query is spelled, and the statements of each maintenance rule.
//!
//! Operators are always parenthesised, so that no database's precedence decides. In SQLite, tables that hold results declare a type
//! only for columns that repeat a base column of that type: any other declared type would change values by affinity.

mod affected;
mod aggregate;
mod delta;
mod distinct;
mod keys;
mod layout;
mod linear;
mod postgres;
mod recompute;
mod record;
mod select;
mod sqlite;
mod top;
mod union;

use deltamesh_change::{Column, ColumnType};

use crate::explain::{self, Sections};
use crate::query::{Output, Scalar, SelectQuery};
use crate::slices::{Sliced, Slices};
use crate::strategy::{Strategy, choose};
use crate::{
    Action, BaseRelation, CreateView, Dialect, Error, Explain, HiddenColumn, Index, Indexes, Order, Program,
    Step, Stored, ViewDefinition, block, facts, kinds, old_table,
};
pub(crate) use delta::{in_order, join_order, looked_up};
use layout::{Layout, Role};
pub(crate) use select::{Render, render, sorted};

/// A quoted identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted text literal.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What a rule contributes to a program.
pub(crate) struct Parts {
    layout: Layout,
    connect: Vec<String>,
    fill: Vec<String>,
    maintain: Vec<Step>,
    /// TEMP tables besides those of the images.
    scratch: Vec<String>,
    indexes: Vec<Index>,
    notes: Vec<String>,
}

/// Builds the program of a resolved query; `columns` are its typed outputs.
pub(crate) fn program(
    statement: &CreateView,
    query: &SelectQuery,
    columns: Vec<Column>,
) -> Result<Program, Error> {
    let written = query;
    let query = crate::strategy::without_distinct(query.clone())?;
    check_size(&query)?;
    let strategy = choose(&query);
    check_stored(statement, &strategy, &query)?;
    let mut layout = keys::layout(statement, &query, &columns)?;
    layout.stored &= !is_read_through(statement, &query, &strategy, &layout);
    let parts = match &strategy {
        Strategy::Linear => linear::plan(&query, layout),
        Strategy::Aggregate => aggregate::plan(&query, layout),
        Strategy::Recompute(affected) => recompute::plan(&query, layout, affected),
        Strategy::Top(top) => top::plan(&query, top, layout),
        Strategy::Full => recompute::plan_full(&query, layout),
    };
    let explain = |definition: &ViewDefinition, notes: &[String], sections: &Sections<'_>| {
        explain::block(definition, &query, &strategy, notes, sections)
    };
    let oracle = oracle(statement, written, &parts.layout);
    let sliced = Sliced::block(&query, &strategy, &parts.layout.values());
    let of = Of { columns, bases: delta::bases(&query), order_by: query.order_by.clone(), oracle, sliced };
    assemble(statement, parts, of, explain)
}

/// The query as it was written, which the view must always equal. Those who read a part may name its hidden key.
fn oracle(statement: &CreateView, written: &SelectQuery, layout: &Layout) -> String {
    if !block::is_part(&statement.name) {
        return written.oracle();
    }
    let mut whole = written.clone();
    let hidden = layout.columns.iter().filter(|stored| stored.role == Role::Key);
    let output = |stored: &layout::Stored| {
        Some(Output { name: stored.column.name.clone(), expr: stored.expr.clone()? })
    };
    whole.outputs.extend(hidden.filter_map(output));
    whole.oracle()
}

/// Builds the program of a `UNION ALL` of linear blocks; `columns` are the typed outputs of each.
pub(crate) fn union_all(
    statement: &CreateView,
    branches: &[SelectQuery],
    columns: &[Vec<Column>],
) -> Result<Program, Error> {
    branches.iter().try_for_each(check_size)?;
    let options = &statement.options;
    if options.stored == Stored::Never || !options.key.is_empty() {
        let message = "UNION ALL keeps its rows under keys of its own: leave key and stored out";
        return Err(Error::definition(message, statement.location));
    }
    check_types(statement, branches)?;
    let (parts, columns) = union::plan(statement, branches, columns);
    let bases = in_order(branches.iter().flat_map(|query| &query.relations).map(|joined| &joined.base.base));
    let keyed = |(number, query): (usize, &SelectQuery)| {
        let mut query = query.clone();
        if block::is_part(&statement.name) {
            query.outputs.extend(union::key(number, &query));
        }
        query.oracle()
    };
    let oracle: Vec<String> = branches.iter().enumerate().map(keyed).collect();
    let sliced = Sliced::union_all(branches);
    let of = Of { columns, bases, order_by: vec![], oracle: oracle.join(" UNION ALL "), sliced };
    assemble(statement, parts, of, |definition, notes, sections| {
        explain::union_all(definition, branches, notes, sections)
    })
}

/// What a program has besides the parts of its rule.
struct Of {
    columns: Vec<Column>,
    bases: Vec<BaseRelation>,
    order_by: Vec<Order>,
    oracle: String,
    sliced: Sliced,
}

fn assemble(
    statement: &CreateView,
    mut parts: Parts,
    of: Of,
    explain: impl FnOnce(&ViewDefinition, &[String], &Sections<'_>) -> Explain,
) -> Result<Program, Error> {
    if statement.options.indexes == Indexes::Now {
        parts.indexes.iter_mut().for_each(|index| index.changes_of.clear());
    }
    let subject = subject(statement, &parts.layout)?;
    let (oracle, sliced) = (of.oracle.clone(), of.sliced.clone());
    let definition = definition(statement, of, &parts, &subject);
    let create = parts.layout.create(&oracle);
    check_names(statement, &parts)?;
    let (apply, record) = (parts.layout.apply(), parts.layout.record(&subject));
    let images = [parts.layout.old_images(), parts.layout.new_images()];
    let temporary: Vec<String> = images.iter().chain(&parts.scratch).cloned().collect();
    let mut drop = parts.layout.drop();
    drop.extend(temporary.iter().map(|table| format!("DROP TABLE IF EXISTS {table}")));
    let sections = Sections { maintain: &parts.maintain, apply: &apply, record: &record };
    let explain = explain(&definition, &parts.notes, &sections);
    Ok(Program {
        definition,
        images,
        create,
        connect: parts.connect,
        empty: parts.layout.empty(),
        fill: parts.fill,
        maintain: parts.maintain,
        apply,
        record,
        clear: temporary.into_iter().map(clear).collect(),
        drop,
        oracle,
        explain,
        slices: Slices::Any,
        sliced,
    })
}

/// Where every column has one type, the branches agree in it.
fn check_types(statement: &CreateView, branches: &[SelectQuery]) -> Result<(), Error> {
    let Some(first) = branches.first().filter(|query| query.dialect == Dialect::Postgres) else {
        return Ok(());
    };
    for (index, output) in first.outputs.iter().enumerate() {
        let kinds = branches.iter().filter_map(|query| kinds::known(query, &query.outputs.get(index)?.expr));
        let kinds: Vec<ColumnType> = kinds.collect();
        if kinds.windows(2).any(|pair| pair[0] != pair[1]) {
            let message =
                format!("column {} has another type in each branch: CAST it (Postgres replica)", output.name);
            return Err(Error::types_at(message, statement.location));
        }
    }
    Ok(())
}

fn check_size(query: &SelectQuery) -> Result<(), Error> {
    for base in delta::bases(query) {
        let times = delta::occurrences(query, &base).len();
        if times > delta::MAX_OCCURRENCES {
            let message = format!("{} is joined {times} times: split the view", base.relation);
            return Err(Error::unsupported(message, query.location));
        }
    }
    Ok(())
}

/// Refuses a view whose tables the database could not tell from others by their names.
fn check_names(statement: &CreateView, parts: &Parts) -> Result<(), Error> {
    let tables = parts.scratch.iter().map(|table| table.trim_matches('"').to_owned());
    let mut names = tables.chain([parts.layout.storage(), old_table(&parts.layout.view)]);
    if !names.any(|name| parts.layout.dialect.is_too_long(&name)) {
        return Ok(());
    }
    let message =
        format!("the name {} is too long for tables made from it: 40 bytes at most", statement.name);
    Err(Error::definition(message, statement.location))
}

fn check_stored(statement: &CreateView, strategy: &Strategy, query: &SelectQuery) -> Result<(), Error> {
    if statement.options.stored == Stored::Never && *strategy != Strategy::Linear {
        let message = "stored = never is for filters, projections and inner joins: this view needs its rows, write stored = auto";
        return Err(Error::unsupported(message, query.location));
    }
    Ok(())
}

/// Whether `stored = auto` reads the rows from the bases: each is one row of one base and those that it points to by their
/// keys, none is left out by a condition, and its key is that of the one base. So a row is found by as many seeks as there
/// are bases, and all rows cost a scan of what would be stored twice.
fn is_read_through(
    statement: &CreateView,
    query: &SelectQuery,
    strategy: &Strategy,
    layout: &Layout,
) -> bool {
    let is_candidate = statement.options.stored == Stored::Auto
        && *strategy == Strategy::Linear
        && !block::is_part(&statement.name)
        && !query.relations.iter().any(|joined| block::is_part(&joined.base.base.relation));
    let is_visible = layout.columns.iter().all(|stored| stored.role == Role::Visible);
    let key = facts::row_key(query);
    let of_one = key.first().is_some_and(|first| {
        let mut own = query.key_of(first.relation);
        own.sort_unstable();
        own == key
    });
    // What joins; it leaves out only rows without partner.
    let is_join = |condition: &Scalar| match condition {
        Scalar::Binary(left, "=", right) => left.as_column().is_some() && right.as_column().is_some(),
        _ => false,
    };
    is_candidate
        && is_visible
        && !layout.key.is_empty()
        && !layout.nullable_key()
        && of_one
        && query.filter.is_empty()
        && query.conditions().all(is_join)
}

/// Token columns of the subject: the declared ones, then the rest of the key.
fn subject(statement: &CreateView, layout: &Layout) -> Result<Vec<usize>, Error> {
    let mut subject: Vec<usize> = vec![];
    for name in &statement.options.subject {
        let visible = layout
            .columns
            .iter()
            .position(|stored| stored.role == Role::Visible && stored.column.name.eq_ignore_ascii_case(name));
        let Some(index) = visible else {
            let known = layout.columns.iter().filter(|stored| stored.role == Role::Visible);
            let near = crate::resolve::nearest(name, known.map(|stored| stored.column.name.as_str()));
            let message = format!("subject column {name} is not selected{near}");
            return Err(Error::definition(message, statement.location));
        };
        if !subject.contains(&index) {
            subject.push(index);
        }
    }
    let rest: Vec<usize> = layout.key.iter().copied().filter(|index| !subject.contains(index)).collect();
    subject.extend(rest);
    Ok(subject)
}

fn definition(statement: &CreateView, of: Of, parts: &Parts, subject: &[usize]) -> ViewDefinition {
    let layout = &parts.layout;
    let name = |index: &usize| layout.columns[*index].column.name.clone();
    let hidden = layout.columns.iter().filter(|stored| stored.role != Role::Visible);
    let typed = layout.columns.iter().filter(|stored| stored.affinity.is_some());
    ViewDefinition {
        name: statement.name.clone(),
        stem: statement.stem.clone(),
        sql: statement.sql.clone(),
        columns: of.columns,
        hidden: hidden
            .map(|stored| HiddenColumn { column: stored.column.clone(), state: stored.role == Role::State })
            .collect(),
        typed: typed.map(|stored| stored.column.name.clone()).collect(),
        key: layout.key.iter().map(name).collect(),
        subject: subject.iter().map(name).collect(),
        order_by: of.order_by,
        bases: of.bases,
        storage: layout.storage(),
        stored: layout.stored,
        indexes: parts.indexes.clone(),
        options: statement.options.clone(),
    }
}

/// Empties a table of the batch.
fn clear(table: String) -> Action {
    let sql = format!("DELETE FROM {table}");
    Action::over(&[table], sql)
}
