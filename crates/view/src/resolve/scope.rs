//! The `FROM` clause: which relations there are, and what a column name means among them.

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, NamedWindowDefinition, ObjectName, TableFactor,
    TableWithJoins,
};

use super::nearest;
use crate::block::{correlation::OUTER, is_part, membership::ALIAS};
use crate::catalog::CatalogRelation;
use crate::query::{ColumnRef, JoinKind, Joined, Scalar};
use crate::{Catalog, Error, Location};

/// Most relations in one view: the delta statements of a self join grow with the power of two.
pub(crate) const MAX_RELATIONS: usize = 12;

/// The relations of a query in order.
pub(super) struct Scope {
    relations: Vec<Joined>,
    /// Columns that `USING` has merged with one of the same name before them: `*` and a bare name mean that one.
    merged: Vec<ColumnRef>,
    /// The `WINDOW` clause.
    windows: Vec<NamedWindowDefinition>,
}

impl Scope {
    /// Reads `FROM a JOIN b ON … , c`.
    pub(super) fn open(from: &[TableWithJoins], catalog: &Catalog) -> Result<Self, Error> {
        let mut scope = Self { relations: vec![], merged: vec![], windows: vec![] };
        for tables in from {
            scope.push(&tables.relation, JoinKind::Inner, catalog)?;
            for join in &tables.joins {
                scope.join(join, catalog)?;
            }
        }
        Ok(scope)
    }

    fn join(&mut self, join: &Join, catalog: &Catalog) -> Result<(), Error> {
        let location = factor_location(&join.relation);
        let (kind, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (JoinKind::Inner, constraint),
            JoinOperator::CrossJoin(constraint) => (JoinKind::Inner, constraint),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                (JoinKind::Left, constraint)
            }
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_) => {
                let message = "RIGHT and FULL JOIN need ON: write the condition, and coalesce(a.x, b.x) for one column of both";
                return Err(Error::unsupported(message, location));
            }
            JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) => {
                return Err(Error::unsupported("SEMI JOIN: write WHERE EXISTS (SELECT …)", location));
            }
            JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) => {
                return Err(Error::unsupported("ANTI JOIN: write WHERE NOT EXISTS (SELECT …)", location));
            }
            _ => return Err(Error::unsupported("this join: write JOIN … ON or LEFT JOIN … ON", location)),
        };
        self.push(&join.relation, kind, catalog)?;
        let on = match constraint {
            JoinConstraint::On(expr) => self.scalar(expr)?.conjuncts(),
            JoinConstraint::None if kind == JoinKind::Inner => vec![],
            JoinConstraint::None => return Err(Error::unsupported("LEFT JOIN needs ON", location)),
            JoinConstraint::Using(names) => self.merge(names.iter().filter_map(last_ident))?,
            JoinConstraint::Natural => {
                let names = self.common_names(location);
                self.merge(names.iter())?
            }
        };
        if on.iter().any(|condition| !condition.aggregates().is_empty()) {
            return Err(Error::unsupported(
                "an aggregate in ON: aggregate in a view of its own and join that",
                location,
            ));
        }
        if let Some(joined) = self.relations.last_mut() {
            joined.on = on;
        }
        Ok(())
    }

    fn push(&mut self, factor: &TableFactor, kind: JoinKind, catalog: &Catalog) -> Result<(), Error> {
        let location = factor_location(factor);
        let TableFactor::Table { name, alias, args: None, with_ordinality: false, sample: None, .. } = factor
        else {
            let message = match factor {
                TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } => {
                    "a function in FROM: what makes rows is captured as a relation of its own"
                }
                TableFactor::NestedJoin { .. } => {
                    "joins in parentheses: put them into a subquery, (SELECT … FROM a JOIN b ON …) AS name"
                }
                _ => "only relations, views and subqueries in FROM",
            };
            return Err(Error::unsupported(message, location));
        };
        let base = lookup(name, catalog)?;
        let alias = match alias {
            Some(alias) if !alias.columns.is_empty() => {
                return Err(Error::unsupported("rename columns in the SELECT, not in FROM", location));
            }
            Some(alias) => alias.name.value.clone(),
            None => base.base.relation.clone(),
        };
        if self.relations.iter().any(|joined| joined.alias.eq_ignore_ascii_case(&alias)) {
            let message = format!("{alias} is in FROM twice: give one of them an alias");
            return Err(Error::name(message, location));
        }
        let is_member = alias.starts_with(ALIAS) && is_part(&base.base.relation) || alias.starts_with(OUTER);
        if alias.to_ascii_lowercase().starts_with("__deltamesh") && !is_member {
            return Err(Error::name(format!("the alias {alias} is reserved"), location));
        }
        if !base.stored {
            let message = format!(
                "view {alias} has stored = never and cannot be read by a view: create it with stored = always"
            );
            return Err(Error::unsupported(message, location));
        }
        if self.relations.len() == MAX_RELATIONS {
            return Err(Error::unsupported(
                format!("more than {MAX_RELATIONS} relations: split the view"),
                location,
            ));
        }
        self.relations.push(Joined { alias, base: base.clone(), kind, on: vec![] });
        Ok(())
    }

    /// Names of columns that the last relation shares with those before it.
    fn common_names(&self, location: Option<Location>) -> Vec<Ident> {
        let Some((last, others)) = self.relations.split_last() else { return vec![] };
        let names = last.base.columns[..last.base.visible].iter().map(|column| &column.name);
        let is_common = |name: &&String| others.iter().any(|joined| joined.base.column_index(name).is_some());
        names.filter(is_common).map(|name| ident(name, location)).collect()
    }

    /// Conditions that columns of these names in the last relation equal those before it; they are one column from then on.
    fn merge<'n>(&mut self, names: impl Iterator<Item = &'n Ident>) -> Result<Vec<Scalar>, Error> {
        let mut on = vec![];
        let Some(last) = self.relations.pop() else { return Ok(on) };
        let relation = self.relations.len();
        let mut merged = vec![];
        for name in names {
            let location = Location::of(name.span);
            let (left, right) = (self.find_column(name)?, last.base.column_index(&name.value));
            let (Some(left), Some(column)) = (left, right) else {
                let side = if right.is_none() { &last.alias } else { "the relations before it" };
                return Err(Error::name(format!("no column {} in {side} for USING", name.value), location));
            };
            let right = ColumnRef { relation, column };
            merged.push(right);
            on.push(Scalar::binary(Scalar::Column(left), "=", Scalar::Column(right)));
        }
        self.relations.push(last);
        self.merged.extend(merged);
        Ok(on)
    }

    /// Whether `*` and a bare name mean a column.
    pub(super) fn is_bare(&self, column: ColumnRef) -> bool {
        let alias = &self.relations[column.relation].alias;
        !self.merged.contains(&column) && !alias.starts_with(ALIAS) && !alias.starts_with(OUTER)
    }

    /// Makes the names of a `WINDOW` clause known.
    pub(super) fn with_windows(mut self, windows: &[NamedWindowDefinition]) -> Self {
        self.windows = windows.to_vec();
        self
    }

    pub(super) fn windows(&self) -> &[NamedWindowDefinition] {
        &self.windows
    }

    pub(super) fn relations(&self) -> &[Joined] {
        &self.relations
    }

    pub(super) fn into_relations(self) -> Vec<Joined> {
        self.relations
    }

    /// `column`, among all relations.
    pub(super) fn column(&self, name: &Ident) -> Result<ColumnRef, Error> {
        self.find_column(name)?.ok_or_else(|| {
            let known = self.relations.iter().flat_map(|joined| &joined.base.columns[..joined.base.visible]);
            let near = nearest(&name.value, known.map(|column| column.name.as_str()));
            Error::name(format!("no column {}{near}", name.value), Location::of(name.span))
        })
    }

    /// `column` if any relation has it.
    pub(super) fn find_column(&self, name: &Ident) -> Result<Option<ColumnRef>, Error> {
        let mut found = self.relations.iter().enumerate().filter_map(|(relation, joined)| {
            let column = joined.base.column_index(&name.value)?;
            Some(ColumnRef { relation, column }).filter(|column| self.is_bare(*column))
        });
        let first = found.next();
        if let (Some(first), Some(second)) = (first, found.next()) {
            let alias = |column: ColumnRef| &self.relations[column.relation].alias;
            let message = format!(
                "column {0} is in {1} and in {2}: write {1}.{0}",
                name.value,
                alias(first),
                alias(second)
            );
            return Err(Error::name(message, Location::of(name.span)));
        }
        Ok(first)
    }

    /// `relation.column` or `source.relation.column`.
    pub(super) fn qualified_column(&self, parts: &[Ident]) -> Result<ColumnRef, Error> {
        let ([qualifier, name] | [_, qualifier, name]) = parts else {
            let location = parts.first().and_then(|part| Location::of(part.span));
            return Err(Error::name("a column is relation.column", location));
        };
        let relation = self.relation(qualifier)?;
        let base = &self.relations[relation].base;
        let column = base.column_index(&name.value).ok_or_else(|| {
            let near =
                nearest(&name.value, base.columns[..base.visible].iter().map(|column| column.name.as_str()));
            Error::name(
                format!("no column {} in {}{near}", name.value, qualifier.value),
                Location::of(name.span),
            )
        })?;
        Ok(ColumnRef { relation, column })
    }

    /// Index of the relation with that alias.
    pub(super) fn relation(&self, alias: &Ident) -> Result<usize, Error> {
        self.relations.iter().position(|joined| joined.alias.eq_ignore_ascii_case(&alias.value)).ok_or_else(
            || {
                let near = nearest(&alias.value, self.relations.iter().map(|joined| joined.alias.as_str()));
                Error::name(format!("no relation {} in FROM{near}", alias.value), Location::of(alias.span))
            },
        )
    }

    pub(super) fn scalar(&self, expr: &Expr) -> Result<Scalar, Error> {
        super::expression::resolve(self, expr)
    }
}

fn lookup<'a>(name: &ObjectName, catalog: &'a Catalog) -> Result<&'a CatalogRelation, Error> {
    let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let (source, relation) = match parts.as_slice() {
        [relation] => (None, *relation),
        [source, relation] => (Some(source.value.as_str()), *relation),
        _ => return Err(Error::name(format!("a relation is name or source.name, not {name}"), None)),
    };
    let location = parts.first().and_then(|part| Location::of(part.span));
    match catalog.find(source, &relation.value).as_slice() {
        [found] => Ok(found),
        [] => {
            let near = nearest(&relation.value, catalog.names());
            Err(Error::name(format!("no relation or view {name}{near}"), location))
        }
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|found| match &found.base.source {
                    Some(source) => format!("{source}.{}", found.base.relation),
                    None => format!("view {}", found.base.relation),
                })
                .collect();
            Err(Error::name(format!("{name} may be {}: write source.relation", names.join(" or ")), location))
        }
    }
}

fn last_ident(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(|part| part.as_ident())
}

/// A name that stands at that place.
fn ident(name: &str, location: Option<Location>) -> Ident {
    use datafusion_sql::sqlparser::tokenizer::{Location as Place, Span};
    let place = location.map_or_else(Place::empty, |at| Place::new(at.line, at.column));
    Ident::with_span(Span::new(place, place), name)
}

fn factor_location(factor: &TableFactor) -> Option<Location> {
    use datafusion_sql::sqlparser::ast::Spanned;
    Location::of(factor.span())
}
