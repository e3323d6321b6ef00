//! What a block does for one changed row of a base: which rows are looked up, by which columns.
//!
//! It follows the maintenance rules, not the text of their statements. `cost/estimate.rs` makes numbers of it, by counts that
//! the replica provides.

mod estimate;

use serde::{Deserialize, Serialize};

pub(crate) use estimate::write_costs;
pub use estimate::{Counts, Spread};

use crate::ViewDefinition;
use crate::query::{ColumnRef, Scalar, SelectQuery};
use crate::sql::{join_order, looked_up};
use crate::strategy::{self, Strategy};

/// Rows of a table that have the same values in some columns; all its rows where there are none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lookup {
    /// Table that has the rows.
    pub table: String,
    /// The columns.
    pub columns: Vec<String>,
    /// Whether rows with NULL in a column are found too.
    pub finds_null: bool,
}

/// One table of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hop {
    lookup: Lookup,
    /// Whether the columns hold the key.
    is_one: bool,
}

/// From the changed rows of a base to the joined rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reach {
    base: String,
    path: Vec<Hop>,
    /// Whether what is affected depends on the rows that the path finds.
    spreads: bool,
}

/// What follows from the joined rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Effect {
    /// They are the view's changed rows.
    Rows,
    /// They are added into their groups.
    Groups,
    /// What shares their values is computed again; one row for each value, or all rows of the path.
    Again { path: Vec<Hop>, is_one: bool },
    /// So many first rows are read again.
    First(u64),
    /// Everything is read again.
    Whole(Vec<String>),
}

/// The cost of a block's changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockCost {
    block: String,
    reaches: Vec<Reach>,
    effect: Effect,
}

/// The work of a block.
pub(crate) fn block(definition: &ViewDefinition, query: &SelectQuery, strategy: &Strategy) -> BlockCost {
    let (through_all, affected) = match strategy {
        Strategy::Linear => (true, None),
        Strategy::Aggregate => (true, query.group.clone()),
        Strategy::Recompute(affected) => (false, Some(affected.clone())),
        Strategy::Top(top) => (false, Some(top.partition.clone())),
        Strategy::Full => (false, Some(vec![])),
    };
    let reach = |changed: usize| {
        let among = match strategy {
            Strategy::Full | Strategy::Top(_) => vec![],
            _ if through_all => (0..query.relations.len()).collect(),
            _ => {
                let mut among: Vec<usize> = (0..strategy::preserved(query)).collect();
                among.extend(strategy::joined_through(query, changed));
                among
            }
        };
        let rest: Vec<usize> = among.into_iter().filter(|relation| *relation != changed).collect();
        let reads_other = |expr: &Scalar| expr.relations().into_iter().any(|relation| relation != changed);
        Reach {
            base: query.relations[changed].base.base.table.clone(),
            path: path(query, &[changed], &rest, &[]),
            spreads: affected.as_ref().is_none_or(|affected| affected.iter().any(reads_other)),
        }
    };
    BlockCost {
        block: definition.name.clone(),
        reaches: (0..query.relations.len()).map(reach).collect(),
        effect: effect(definition, query, strategy),
    }
}

/// The work of a `UNION ALL`.
pub(crate) fn union_all(definition: &ViewDefinition, branches: &[SelectQuery]) -> BlockCost {
    let reaches = branches.iter().flat_map(|query| block(definition, query, &Strategy::Linear).reaches);
    BlockCost { block: definition.name.clone(), reaches: reaches.collect(), effect: Effect::Rows }
}

fn effect(definition: &ViewDefinition, query: &SelectQuery, strategy: &Strategy) -> Effect {
    match strategy {
        Strategy::Linear => Effect::Rows,
        Strategy::Aggregate => Effect::Groups,
        Strategy::Recompute(affected) => {
            let given: Vec<ColumnRef> = affected.iter().filter_map(Scalar::as_column).collect();
            let all: Vec<usize> = (0..query.relations.len()).collect();
            let (inner, outer) = all.split_at(strategy::preserved(query));
            let mut hops = path(query, &[], inner, &given);
            for (number, relation) in outer.iter().enumerate() {
                hops.extend(path(query, &all[..inner.len() + number], &[*relation], &[]));
            }
            Effect::Again { path: hops, is_one: query.group.is_some() && query.windows().next().is_none() }
        }
        Strategy::Top(top) => Effect::First(top.limit.saturating_add(top.offset)),
        Strategy::Full => {
            let bases = query.relations.iter().map(|joined| joined.base.storage.clone());
            Effect::Whole(bases.chain([definition.storage.clone()]).collect())
        }
    }
}

/// The relations of `rest` in the order in which the rules read them.
fn path(query: &SelectQuery, first: &[usize], rest: &[usize], given: &[ColumnRef]) -> Vec<Hop> {
    let mut bound = first.to_vec();
    let order = join_order(query, first, rest, given, None, &mut Default::default());
    let hops = order.into_iter().map(|relation| {
        let base = &query.relations[relation].base;
        let given = given.iter().filter(|column| column.relation == relation).map(|column| column.column);
        let mut columns: Vec<usize> = given.collect();
        let finds_null = !columns.is_empty();
        columns.extend(query.conditions().filter_map(|condition| looked_up(condition, relation, &bound)));
        columns.sort_unstable();
        columns.dedup();
        bound.push(relation);
        let names = columns.iter().map(|column| base.columns[*column].name.clone()).collect();
        Hop {
            lookup: Lookup { table: base.storage.clone(), columns: names, finds_null },
            is_one: base.key.iter().all(|key| columns.contains(key)),
        }
    });
    hops.collect()
}

/// Every lookup whose number of rows must be counted.
pub(crate) fn lookups(blocks: &[BlockCost]) -> Vec<Lookup> {
    let hops = |block: &BlockCost| -> Vec<Hop> {
        let again = match &block.effect {
            Effect::Again { path, .. } => path.clone(),
            _ => vec![],
        };
        block.reaches.iter().flat_map(|reach| reach.path.iter().cloned()).chain(again).collect()
    };
    let all = |table: &String| Lookup { table: table.clone(), columns: vec![], finds_null: false };
    let whole = blocks.iter().flat_map(|block| match &block.effect {
        Effect::Whole(tables) => tables.iter().map(all).collect(),
        _ => vec![],
    });
    let looked_up = blocks.iter().flat_map(hops).filter(|hop| !hop.is_one).map(|hop| hop.lookup);
    let mut lookups: Vec<Lookup> = looked_up.chain(whole).collect();
    lookups.sort_unstable();
    lookups.dedup();
    lookups
}
