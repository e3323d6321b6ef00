//! Query blocks: a query with `WITH` or with subqueries in `FROM` becomes several plain `SELECT`s.
//!
//! A *query block* (Selinger et al., 1979) is one `SELECT … FROM … WHERE … GROUP BY … HAVING`. Each block but the last is a
//! *part* of the view: it is planned as a view that only the blocks behind it read, kept in a table of its own and
//! maintained by the best rule for it, so that a small change below stays a small change above.

use datafusion_sql::sqlparser::ast::{
    Cte, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Spanned, TableAlias,
    TableFactor, TableWithJoins,
};

use crate::{Error, Location};

/// Most parts of one view.
const MAX_PARTS: usize = 32;

/// How names of parts begin; views and aliases cannot.
pub(crate) const PREFIX: &str = "__deltamesh_part";

/// One block of a view that others read.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) query: Box<Query>,
    /// Parts that it reads.
    reads: Vec<String>,
}

/// Splits a view's query into its parts, each behind those that it reads, and the block that makes the view's rows.
pub(crate) fn split(view: &str, query: &Query) -> Result<(Vec<Part>, Box<Query>), Error> {
    let mut splitter = Splitter { view, parts: vec![], named: vec![] };
    let mut query = Box::new(query.clone());
    let mut needed = splitter.block(&mut query)?;
    let mut parts = splitter.parts;
    // What nobody reads is not maintained. A part reads only those before it.
    for index in (0..parts.len()).rev() {
        if needed.contains(&parts[index].name) {
            needed.extend_from_slice(&parts[index].reads);
        } else {
            parts.remove(index);
        }
    }
    Ok((parts, query))
}

struct Splitter<'a> {
    view: &'a str,
    parts: Vec<Part>,
    /// Names of `WITH` that are known here, inner ones last, and the part that each stands for.
    named: Vec<(String, String)>,
}

impl Splitter<'_> {
    /// Makes a query one plain block; returns the parts that it reads.
    fn block(&mut self, query: &mut Query) -> Result<Vec<String>, Error> {
        let known = self.named.len();
        if let Some(with) = query.with.take() {
            if with.recursive {
                let message = "WITH RECURSIVE: a view cannot follow a chain of unknown length";
                return Err(Error::unsupported(message, Location::of(with.span())));
            }
            for table in with.cte_tables {
                self.define(table)?;
            }
        }
        let reads = self.body(&mut query.body);
        self.named.truncate(known);
        reads
    }

    fn define(&mut self, table: Cte) -> Result<(), Error> {
        let name = table.alias.name.value.clone();
        if table.from.is_some() {
            let message = "FROM behind a name of WITH: leave it out";
            return Err(Error::unsupported(message, Location::of(table.alias.name.span)));
        }
        let part = self.part(table.query, &table.alias)?;
        self.named.push((name, part));
        Ok(())
    }

    fn body(&mut self, body: &mut SetExpr) -> Result<Vec<String>, Error> {
        let mut reads = vec![];
        match body {
            SetExpr::Select(select) => {
                for TableWithJoins { relation, joins } in &mut select.from {
                    self.factor(relation, &mut reads)?;
                    for join in joins {
                        self.factor(&mut join.relation, &mut reads)?;
                    }
                }
            }
            SetExpr::Query(query) => reads = self.block(query)?,
            _ => {}
        }
        Ok(reads)
    }

    /// Lets an entry of `FROM` read a part, where it is a subquery or a name of `WITH`.
    fn factor(&mut self, factor: &mut TableFactor, reads: &mut Vec<String>) -> Result<(), Error> {
        let location = Location::of(factor.span());
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let Some((part, given)) = self.named_part(name) else { return Ok(()) };
                reads.push(part.clone());
                *name = object_name(&part);
                alias.get_or_insert_with(|| table_alias(given));
                Ok(())
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let Some(given) = alias else {
                    return Err(Error::unsupported(
                        "a subquery in FROM needs a name: (SELECT …) AS name",
                        location,
                    ));
                };
                let part = self.part(subquery.clone(), given)?;
                reads.push(part.clone());
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
    fn part(&mut self, mut query: Box<Query>, alias: &TableAlias) -> Result<String, Error> {
        let location = Location::of(alias.name.span);
        let reads = self.block(&mut query)?;
        if !alias.columns.is_empty() {
            rename(&mut query, alias)?;
        }
        if self.parts.len() == MAX_PARTS {
            let message = format!("more than {MAX_PARTS} subqueries: make views of some and read them");
            return Err(Error::unsupported(message, location));
        }
        let name = format!("{PREFIX}{}_{}", self.parts.len() + 1, self.view);
        self.parts.push(Part { name: name.clone(), query, reads });
        Ok(name)
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

fn table(name: &str, alias: TableAlias) -> TableFactor {
    TableFactor::Table {
        name: object_name(name),
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
