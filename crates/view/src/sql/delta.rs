//! Rows that a change of one base adds to, or takes from, the joined relations.
//!
//! The changed rows come first and every further relation is reached by an index: `CROSS JOIN` keeps SQLite from choosing
//! another order. For a relation that is joined with itself, the rows in which several occurrences changed are counted by
//! inclusion and exclusion.

use std::collections::BTreeSet;

use super::select::{Render, conjunction};
use super::{quote, render};
use crate::query::{ColumnRef, Joined, Scalar, SelectQuery};
use crate::{Action, BaseRelation, Dialect, Index, Phase, Step, dialect, facts, new_table, old_table};

/// Most occurrences of one relation in a view; the statements double with each.
pub(crate) const MAX_OCCURRENCES: usize = 4;

/// Which image of the changed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Image {
    Old,
    New,
}

impl Image {
    pub(crate) fn phase(self, table: &str) -> Phase {
        match self {
            Self::Old => Phase::Before(table.to_owned()),
            Self::New => Phase::After(table.to_owned()),
        }
    }

    pub(crate) fn table(self, joined: &Joined, dialect: Dialect) -> String {
        let table = &joined.base.base.table;
        dialect.batch_table(&if self == Self::Old { old_table(table) } else { new_table(table) })
    }
}

/// Order in which relations are joined, and the indexes that this needs.
#[derive(Debug, Default)]
pub(crate) struct Indexes(Vec<Index>);

impl Indexes {
    /// The indexes, without those that a longer one makes superfluous.
    pub(crate) fn into_vec(self) -> Vec<Index> {
        let (at_once, later): (Vec<Index>, Vec<Index>) = self.0.into_iter().partition(Index::is_made_at_once);
        let mut indexes: Vec<Index> = Index::serving(&at_once).into_iter().cloned().collect();
        let unserved = later.into_iter().filter(|index| !at_once.iter().any(|known| known.serves(index)));
        indexes.extend(unserved.collect::<Vec<_>>());
        indexes
    }

    /// Notes that rows of a relation are looked up by these columns: in every batch, or only where this base changes.
    pub(crate) fn need(&mut self, joined: &Joined, columns: &BTreeSet<usize>, of: Option<&BaseRelation>) {
        let base = &joined.base;
        let first_of_key = base.key.first().is_some_and(|first| columns.contains(first));
        // A base without key has one row.
        if columns.is_empty() || first_of_key || base.key.is_empty() {
            return;
        }
        let columns: Vec<usize> = columns.iter().copied().collect();
        let names: Vec<&String> = columns.iter().map(|column| &base.columns[*column].name).collect();
        let serves = |index: &&mut Index| {
            index.table == base.storage
                && index.columns.iter().zip(&names).filter(|(a, b)| a == *b).count() == names.len()
        };
        // Only a source says of a relation that it never changes.
        let of = of.filter(|of| of.source.is_some() && base.base.source.is_some()).map(|of| &of.table);
        match self.0.iter_mut().find(serves) {
            Some(index) if index.is_made_at_once() => {}
            Some(index) => match of {
                None => index.changes_of.clear(),
                Some(of) if index.changes_of.contains(of) => {}
                Some(of) => index.changes_of.push(of.clone()),
            },
            None => {
                let made = self.0.len();
                self.make(joined, &columns);
                self.0[made..].iter_mut().for_each(|index| index.changes_of.extend(of.cloned()));
            }
        }
    }

    /// An index on exactly these columns, unless the key serves already.
    pub(crate) fn make(&mut self, joined: &Joined, columns: &[usize]) {
        let ascending: Vec<(usize, bool)> = columns.iter().map(|column| (*column, false)).collect();
        self.make_ordered(joined, &ascending);
    }

    /// An index on exactly these columns, each with whether it descends, unless the key serves already.
    pub(crate) fn make_ordered(&mut self, joined: &Joined, columns: &[(usize, bool)]) {
        let base = &joined.base;
        let name = |column: &usize| base.columns[*column].name.clone();
        let mixed =
            columns.iter().any(|(_, descends)| *descends) && columns.iter().any(|(_, descends)| !*descends);
        // An index is read in both directions.
        let descending: Vec<String> = columns
            .iter()
            .filter(|(_, descends)| mixed && *descends)
            .map(|(column, _)| name(column))
            .collect();
        let columns: Vec<usize> = columns.iter().map(|(column, _)| *column).collect();
        if base.key.starts_with(&columns) && descending.is_empty() {
            return;
        }
        let columns: Vec<String> = columns.iter().map(name).collect();
        let kind =
            if descending.is_empty() { "ix".to_owned() } else { format!("ix_{}", descending.join("_")) };
        let name = dialect::short(format!("__deltamesh_{kind}_{}_{}", base.storage, columns.join("_")));
        let index = Index { name, table: base.storage.clone(), columns, descending, changes_of: vec![] };
        match self.0.iter_mut().find(|known| known.name == index.name) {
            Some(known) => known.changes_of.clear(),
            None => self.0.push(index),
        }
    }
}

/// The bases of a query, each once, in order of first appearance: mirrors, then views.
pub(crate) fn bases(query: &SelectQuery) -> Vec<BaseRelation> {
    in_order(query.relations.iter().map(|joined| &joined.base.base))
}

/// Relations in the order in which a batch applies them: each once, mirrors first.
pub(crate) fn in_order<'a>(all: impl Iterator<Item = &'a BaseRelation>) -> Vec<BaseRelation> {
    let mut bases: Vec<BaseRelation> = vec![];
    for base in all {
        if !bases.contains(base) {
            bases.push(base.clone());
        }
    }
    bases.sort_by_key(|base| base.source.is_none());
    bases
}

/// Indexes of the relations that read a base.
pub(crate) fn occurrences(query: &SelectQuery, base: &BaseRelation) -> Vec<usize> {
    (0..query.relations.len()).filter(|index| query.relations[*index].base.base == *base).collect()
}

/// Orders `rest` so that each relation is looked up by columns of those before it, if it can be.
///
/// `first` are already there, `given` are columns whose values are known from elsewhere. Where only the changes of one base
/// take this way, that is `of`.
pub(crate) fn join_order(
    query: &SelectQuery,
    first: &[usize],
    rest: &[usize],
    given: &[ColumnRef],
    of: Option<&BaseRelation>,
    indexes: &mut Indexes,
) -> Vec<usize> {
    let mut bound: Vec<usize> = first.to_vec();
    let mut rest: Vec<usize> = rest.to_vec();
    let mut order = vec![];
    while !rest.is_empty() {
        let lookup = |relation: usize| -> BTreeSet<usize> {
            let mut columns: BTreeSet<usize> = given
                .iter()
                .filter(|column| column.relation == relation)
                .map(|column| column.column)
                .collect();
            let looked_up = |among: &[usize]| -> Vec<usize> {
                query.conditions().filter_map(|condition| looked_up(condition, relation, among)).collect()
            };
            let constants = looked_up(&[]);
            columns.extend(looked_up(&bound).into_iter().filter(|column| !constants.contains(column)));
            // Few values beside those of a join find few rows more; in an index they cost a page with each change.
            if columns.is_empty() {
                columns.extend(constants);
            }
            columns
        };
        let rank = |relation: usize| {
            let (columns, base) = (lookup(relation), &query.relations[relation].base);
            let unique = !base.key.is_empty() && base.key.iter().all(|key| columns.contains(key));
            // Early conditions leave fewer rows for what follows.
            let filtered = query.conditions().any(|condition| condition.relations() == [relation]);
            (unique, !columns.is_empty(), filtered)
        };
        let best = (0..rest.len()).rev().max_by_key(|position| rank(rest[*position])).unwrap_or(0);
        let relation = rest.remove(best);
        indexes.need(&query.relations[relation], &lookup(relation), of);
        bound.push(relation);
        order.push(relation);
    }
    order
}

/// The column of `relation` that an equality fixes once the `bound` relations are there.
pub(crate) fn looked_up(condition: &Scalar, relation: usize, bound: &[usize]) -> Option<usize> {
    let Scalar::Binary(left, "=", right) = condition else {
        return None;
    };
    [(left, right), (right, left)].into_iter().find_map(|(side, other)| match &**side {
        Scalar::Column(column)
            if column.relation == relation
                && other.relations().iter().all(|needed| bound.contains(needed)) =>
        {
            Some(column.column)
        }
        _ => None,
    })
}

/// `FROM` the changed rows of some relations and the present rows of the others, and the `WHERE` clause.
pub(crate) fn from_changed(
    query: &SelectQuery,
    changed: &[usize],
    image: Image,
    among: &[usize],
    conditions: &[&Scalar],
    indexes: &mut Indexes,
) -> String {
    let filter = conjunction(conditions.iter().copied(), &Render(query));
    from_changed_where(query, changed, image, among, filter.as_slice(), indexes)
}

/// [`from_changed`] with conditions that are spelled already.
pub(crate) fn from_changed_where(
    query: &SelectQuery,
    changed: &[usize],
    image: Image,
    among: &[usize],
    conditions: &[String],
    indexes: &mut Indexes,
) -> String {
    let rest: Vec<usize> = among.iter().copied().filter(|relation| !changed.contains(relation)).collect();
    let of = changed.first().map(|relation| &query.relations[*relation].base.base);
    let order = join_order(query, changed, &rest, &[], of, indexes);
    let tables: Vec<String> = changed
        .iter()
        .map(|relation| (image.table(&query.relations[*relation], query.dialect), *relation))
        .chain(order.into_iter().map(|relation| (quote(&query.relations[relation].base.storage), relation)))
        .map(|(table, relation)| format!("{table} AS {}", quote(&query.relations[relation].alias)))
        .collect();
    cross_joined(&tables, conditions)
}

/// `FROM … WHERE …` of an inner join, for one group whose values are `values`, in the order of `group`.
pub(crate) fn from_group(
    query: &SelectQuery,
    group: &[Scalar],
    values: &[String],
    indexes: &mut Indexes,
) -> String {
    let names = Render(query);
    let given: Vec<ColumnRef> = group.iter().filter_map(Scalar::as_column).collect();
    let all: Vec<usize> = (0..query.relations.len()).collect();
    let tables: Vec<String> = join_order(query, &[], &all, &given, None, indexes)
        .into_iter()
        .map(|relation| &query.relations[relation])
        .map(|joined| format!("{} AS {}", quote(&joined.base.storage), quote(&joined.alias)))
        .collect();
    let mut conditions: Vec<String> = group
        .iter()
        .zip(values)
        .map(|(expr, value)| same_value(query, expr, &render(expr, &names), value))
        .collect();
    conditions.extend(conjunction(query.conditions(), &names));
    cross_joined(&tables, &conditions)
}

/// `FROM` tables in that order, and the `WHERE` clause.
fn cross_joined(tables: &[String], conditions: &[String]) -> String {
    let filter =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!(" FROM {}{filter}", tables.join(" CROSS JOIN "))
}

/// Equality of two values of an expression: `=` where NULL cannot occur, so that every index serves.
pub(crate) fn same_value(query: &SelectQuery, expr: &Scalar, left: &str, right: &str) -> String {
    if facts::nullable(query, expr) { query.dialect.same(left, right) } else { format!("{left} = {right}") }
}

/// Steps that collect signed rows, and the tables of a batch that they come from.
#[derive(Debug, Default)]
pub(crate) struct Signed {
    pub(crate) steps: Vec<Step>,
    /// If none of these has rows, none goes.
    pub(crate) minus: Vec<String>,
    /// If none of these has rows, none comes.
    pub(crate) plus: Vec<String>,
}

impl Signed {
    pub(crate) fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.minus.extend(other.minus);
        self.plus.extend(other.plus);
    }
}

/// Steps that collect the signed rows of an inner join, as `w` and the given expressions, into a table of the batch.
pub(crate) fn signed(query: &SelectQuery, target: &str, exprs: &[Scalar], indexes: &mut Indexes) -> Signed {
    let names = Render(query);
    let all: Vec<usize> = (0..query.relations.len()).collect();
    let conditions: Vec<&Scalar> = query.conditions().collect();
    let values: Vec<String> = exprs.iter().map(|expr| render(expr, &names)).collect();
    let mut signed = Signed::default();
    for base in bases(query) {
        let occurrences = occurrences(query, &base);
        for image in [Image::Old, Image::New] {
            for changed in subsets(&occurrences) {
                let positive = (changed.len() % 2 == 1) == (image == Image::New);
                let weight = if positive { "1" } else { "-1" };
                let from = from_changed(query, &changed, image, &all, &conditions, indexes);
                let mut select = vec![weight.to_owned()];
                select.extend(values.iter().cloned());
                let sql = format!("INSERT INTO {target} SELECT {}{from}", select.join(", "));
                let images = image.table(&query.relations[changed[0]], query.dialect);
                let action = Action::over(std::slice::from_ref(&images), sql).filling(target);
                signed.steps.push(Step { phase: image.phase(&base.table), action });
                let side = if positive { &mut signed.plus } else { &mut signed.minus };
                side.push(images);
            }
        }
    }
    signed
}

/// Every subset but the empty one, small ones first.
fn subsets(of: &[usize]) -> Vec<Vec<usize>> {
    let mut subsets: Vec<Vec<usize>> = vec![];
    for member in of {
        let with: Vec<Vec<usize>> =
            subsets.iter().map(|subset| subset.iter().copied().chain([*member]).collect()).collect();
        subsets.push(vec![*member]);
        subsets.extend(with);
    }
    subsets.sort_by_key(Vec::len);
    subsets
}
