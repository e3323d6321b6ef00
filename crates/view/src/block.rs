//! Query blocks: a query with `WITH`, subqueries in `FROM` or set operations becomes several plain `SELECT`s.
//!
//! A *query block* (Selinger et al., 1979) is one `SELECT … FROM … WHERE … GROUP BY … HAVING`. Each block but the last is a
//! *part* of the view: it is planned as a view that only the blocks behind it read, kept in a table of its own and
//! maintained by the best rule for it, so that a small change below stays a small change above.

mod ahead;
pub(crate) mod correlation;
mod group;
mod having;
mod layer;
pub(crate) mod membership;
mod merge;
mod outer;
mod pushdown;
mod scalar;
mod set;
mod subquery;

use datafusion_sql::sqlparser::ast::{
    Cte, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Spanned, TableAlias,
    TableFactor, TableWithJoins,
};

use crate::query::SelectQuery;
use crate::{Catalog, CreateView, Error, Location, Program, ViewOptions, resolve};

/// Most parts of one view.
const MAX_PARTS: usize = 32;

/// How names of parts begin; views and aliases cannot.
const PREFIX: &str = "__deltamesh_part";

/// Whether a name is that of a part.
pub(crate) fn is_part(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Plans the blocks of one view.
pub(crate) struct Planner<'a> {
    view: &'a CreateView,
    /// What SQL may refer to, with the parts planned so far.
    pub(crate) catalog: Catalog,
    /// Parts, each behind those that it reads.
    pub(crate) parts: Vec<Program>,
    /// Names of `WITH` that are known here, inner ones last, and the part that each stands for.
    named: Vec<(String, String)>,
    /// Parts that the blocks reading them may have in themselves, by name.
    plain: Vec<(String, SelectQuery)>,
    /// Numbers given to parts.
    reserved: usize,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(view: &'a CreateView, catalog: Catalog) -> Self {
        Self { view, catalog, parts: vec![], named: vec![], plain: vec![], reserved: 0 }
    }

    /// Plans a query as that view; what it needs is among the parts then.
    pub(crate) fn program(&mut self, mut view: CreateView) -> Result<Program, Error> {
        let known = self.named.len();
        if let Some(with) = view.query.with.take() {
            if with.recursive {
                let message = "WITH RECURSIVE: a view cannot follow a chain of unknown length";
                return Err(Error::unsupported(message, Location::of(with.span())));
            }
            for table in with.cte_tables {
                self.define(table)?;
            }
        }
        let program = self.body(view);
        self.named.truncate(known);
        program
    }

    fn define(&mut self, table: Cte) -> Result<(), Error> {
        let name = table.alias.name.value.clone();
        if table.from.is_some() {
            let message = "FROM behind a name of WITH: leave it out";
            return Err(Error::unsupported(message, Location::of(table.alias.name.span)));
        }
        let part = self.renamed_part(table.query, &table.alias)?;
        self.named.push((name, part));
        Ok(())
    }

    fn body(&mut self, mut view: CreateView) -> Result<Program, Error> {
        resolve::check_clauses(&view.query)?;
        let is_limited = resolve::ordered_limit(&view.query)?.is_some();
        match view.query.body.as_mut() {
            SetExpr::Select(select) => {
                self.turn_joins(select, &mut view.query.order_by)?;
                self.flatten(select)?;
                self.plan(&view)
            }
            SetExpr::Query(inner) if !is_limited && view.query.order_by.is_none() => {
                let query = inner.clone();
                self.program(CreateView { query, ..view })
            }
            SetExpr::SetOperation { .. } if !is_limited => self.set_operation(view),
            SetExpr::Query(_) | SetExpr::SetOperation { .. } => self.in_order(view),
            _ => self.plan(&view),
        }
    }

    /// A query in parentheses, or a limited set operation, in an order: its rows are a part.
    fn in_order(&mut self, view: CreateView) -> Result<Program, Error> {
        let rows = self.part(set::query_of(view.query.body.as_ref().clone()))?;
        let mut query = self.select_part(&rows, "")?;
        query.order_by.clone_from(&view.query.order_by);
        query.limit_clause.clone_from(&view.query.limit_clause);
        query.fetch.clone_from(&view.query.fetch);
        self.plan(&CreateView { query, ..view })
    }

    /// Makes a `SELECT` a plain block: parts stand for its subqueries.
    fn flatten(&mut self, select: &mut Select) -> Result<(), Error> {
        subquery::spell_as_in(select)?;
        self.split_having(select)?;
        pushdown::push_row_numbers(select);
        self.read_parts(select)?;
        self.join_subqueries(select)
    }

    /// Lets a block read parts in place of subqueries in `FROM` and names of `WITH`.
    pub(crate) fn read_parts(&mut self, select: &mut Select) -> Result<(), Error> {
        for TableWithJoins { relation, joins } in &mut select.from {
            self.factor(relation)?;
            for join in joins {
                self.factor(&mut join.relation)?;
            }
        }
        Ok(())
    }

    fn factor(&mut self, factor: &mut TableFactor) -> Result<(), Error> {
        let location = Location::of(factor.span());
        match factor {
            TableFactor::Table { name, alias, .. } => {
                if let Some((part, given)) = self.named_part(name) {
                    *name = object_name(&part);
                    alias.get_or_insert_with(|| table_alias(given));
                }
                Ok(())
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let Some(given) = alias else {
                    let message = "a subquery in FROM needs a name: (SELECT …) AS name";
                    return Err(Error::unsupported(message, location));
                };
                let part = self.renamed_part(subquery.clone(), given)?;
                *factor = table(&part, table_alias(given.name.clone()));
                Ok(())
            }
            TableFactor::Derived { lateral: true, .. } => {
                let message = "LATERAL: join the relation and write the condition in ON";
                Err(Error::unsupported(message, location))
            }
            _ => Ok(()),
        }
    }

    /// The part that a name of `WITH` stands for, and the name as it is written.
    fn named_part(&self, name: &ObjectName) -> Option<(String, Ident)> {
        let [part] = name.0.as_slice() else { return None };
        let ident = part.as_ident()?;
        let known = self.named.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(&ident.value));
        known.map(|(_, part)| (part.clone(), ident.clone()))
    }

    /// Adds a query as a part, with its columns renamed as the alias says.
    fn renamed_part(&mut self, mut query: Box<Query>, alias: &TableAlias) -> Result<String, Error> {
        if !alias.columns.is_empty() {
            rename(&mut query, alias)?;
        }
        self.part(query)
    }

    /// Adds a query as a part; returns its name.
    pub(crate) fn part(&mut self, query: Box<Query>) -> Result<String, Error> {
        let statement = self.part_statement(query)?;
        // Those that it reads come before it.
        let part = self.program(statement)?;
        Ok(self.add(part))
    }

    /// The statement that would make a part if it were a view.
    fn part_statement(&mut self, query: Box<Query>) -> Result<CreateView, Error> {
        let number = self.reserve(Location::of(query.span()))?;
        Ok(CreateView {
            name: format!("{PREFIX}{number}_{}", self.view.stem()),
            stem: None,
            replace: false,
            if_not_exists: false,
            options: ViewOptions { indexes: self.view.options.indexes, ..ViewOptions::default() },
            sql: String::new(),
            query,
            location: self.view.location,
        })
    }

    /// Adds a planned part; returns its name.
    fn add(&mut self, part: Program) -> String {
        let name = part.definition.name.clone();
        self.catalog.add_view(&part.definition);
        self.parts.push(part);
        name
    }

    fn reserve(&mut self, location: Option<Location>) -> Result<usize, Error> {
        self.reserved += 1;
        if self.reserved > MAX_PARTS {
            let message = format!("more than {MAX_PARTS} subqueries: make views of some and read them");
            return Err(Error::unsupported(message, location));
        }
        Ok(self.reserved)
    }
}

/// `AS name (a, b)`: names the columns of the query.
fn rename(query: &mut Query, alias: &TableAlias) -> Result<(), Error> {
    let location = Location::of(alias.name.span);
    let name = &alias.name.value;
    let select = select_of(&mut query.body).ok_or_else(|| {
        Error::unsupported(format!("name the columns of {name} in its SELECT: expression AS name"), location)
    })?;
    if select.projection.len() != alias.columns.len() {
        let message =
            format!("{name} names {} columns and selects {}", alias.columns.len(), select.projection.len());
        return Err(Error::definition(message, location));
    }
    for (item, column) in select.projection.iter_mut().zip(&alias.columns) {
        let alias = column.name.clone();
        match item {
            SelectItem::UnnamedExpr(expr) => {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            SelectItem::ExprWithAlias { alias: former, .. } => *former = alias,
            _ => {
                let message = format!("name the columns of {name} one by one, not by *");
                return Err(Error::unsupported(message, location));
            }
        }
    }
    Ok(())
}

fn select_of(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => select_of(&mut query.body),
        _ => None,
    }
}

fn object_name(name: &str) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))])
}

fn table_alias(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: vec![], at: None }
}

/// A part in `FROM`.
fn table(part: &str, alias: TableAlias) -> TableFactor {
    relation(object_name(part), alias)
}

fn relation(name: ObjectName, alias: TableAlias) -> TableFactor {
    TableFactor::Table {
        name,
        alias: Some(alias),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}
