//! How a view is maintained, for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cost::{self, BlockCost, Counts, Lookup};
use crate::query::{JoinKind, Scalar, SelectQuery, Top};
use crate::sql::{Render, render, sorted};
use crate::strategy::Strategy;
use crate::{Action, BaseRelation, Index, Phase, Step, ViewDefinition};

/// Maintenance rule of an operator, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// Filter and projection: from the changed rows alone.
    A,
    /// Counts and sums by group: hidden state, one upsert.
    B,
    /// Join: changed rows of one side with the other side.
    C,
    /// The affected groups are computed again.
    D,
    /// A window of the first rows is kept and refilled.
    E,
    /// The whole view is computed again and compared.
    F,
}

/// One node of the operator tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// What it does, in SQL's words.
    pub name: String,
    /// Rule by which it is maintained; none for a base relation.
    pub tier: Option<Tier>,
    /// Its inputs.
    pub inputs: Vec<Operator>,
}

/// The statements of one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
    /// `before <table>`, `after <table>`, `finish`, `apply` or `record`.
    pub phase: String,
    /// The statements, in order.
    pub sql: Vec<String>,
    /// How many of them a batch runs at most.
    pub most: usize,
}

/// The maintenance of a view. `Display` is the text that `EXPLAIN` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// The view.
    pub view: String,
    /// The most expensive tier in the tree.
    pub tier: Tier,
    /// The operators.
    pub root: Operator,
    /// What is read.
    pub bases: Vec<BaseRelation>,
    /// Indexes made on the bases, as `table (columns)`, and when where that is not with the view.
    pub indexes: Vec<String>,
    /// Statements per phase.
    pub statements: Vec<Statements>,
    /// What a reader should know: costs, hidden columns, derived key.
    pub notes: Vec<String>,
    /// What each block does for a changed row, parts first.
    pub(crate) costs: Vec<BlockCost>,
}

/// [`Explain`] with the estimated cost of a change.
#[derive(Debug)]
pub struct Estimated<'a> {
    explain: &'a Explain,
    counts: &'a Counts,
}

impl Explain {
    /// What has to be counted for [`Explain::estimated`].
    #[must_use]
    pub fn lookups(&self) -> Vec<Lookup> {
        cost::lookups(&self.costs)
    }

    /// The text with what a change of one row of each base costs, by these counts.
    #[must_use]
    pub fn estimated<'a>(&'a self, counts: &'a Counts) -> Estimated<'a> {
        Estimated { explain: self, counts }
    }

    /// How many statements a batch runs that has rows of the base in these phases, at most.
    pub(crate) fn statements_of(&self, phases: &[&str]) -> usize {
        let always = ["finish", "apply", "record"];
        let runs = |statements: &&Statements| {
            let phase = statements.phase.as_str();
            always.contains(&phase) || phases.contains(&phase)
        };
        self.statements.iter().filter(runs).map(|statements| statements.most).sum()
    }

    fn write_outline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "view {} (tier {:?})", self.view, self.tier)?;
        write_operator(f, &self.root, 1)?;
        for base in &self.bases {
            match &base.source {
                Some(source) => {
                    writeln!(f, "base {} (relation {} of source {source})", base.table, base.relation)?
                }
                None => writeln!(f, "base {} (view)", base.table)?,
            }
        }
        self.indexes.iter().try_for_each(|index| writeln!(f, "index {index}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note {note}"))
    }

    fn write_statements(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for statements in &self.statements {
            writeln!(f, "{}", statements.phase)?;
            statements.sql.iter().try_for_each(|sql| writeln!(f, "  {sql}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Estimated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain.write_outline(f)?;
        cost::write_costs(f, self.explain, self.counts)?;
        self.explain.write_statements(f)
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_outline(f)?;
        self.write_statements(f)
    }
}

fn write_operator(f: &mut fmt::Formatter<'_>, operator: &Operator, depth: usize) -> fmt::Result {
    write!(f, "{:width$}{}", "", operator.name, width = depth * 2)?;
    if let Some(tier) = operator.tier {
        write!(f, "  [{tier:?}]")?;
    }
    writeln!(f)?;
    operator.inputs.iter().try_for_each(|input| write_operator(f, input, depth + 1))
}

/// The statements that are shown.
pub(crate) struct Sections<'a> {
    pub(crate) maintain: &'a [Step],
    pub(crate) apply: &'a [Action],
    pub(crate) record: &'a [Action],
}

/// Describes how a block is kept.
pub(crate) fn block(
    definition: &ViewDefinition,
    query: &SelectQuery,
    strategy: &Strategy,
    notes: &[String],
    sections: &Sections<'_>,
) -> Explain {
    let columns: Vec<&str> = definition.columns.iter().map(|column| column.name.as_str()).collect();
    let root =
        wrap(format!("project {}", columns.join(", ")), Some(row_tier(strategy)), operators(query, strategy));
    let costs = vec![cost::block(definition, query, strategy)];
    Explain { costs, ..described(definition, root, strategy.tier(query), notes, sections) }
}

/// Describes how a `UNION ALL` is kept.
pub(crate) fn union_all(
    definition: &ViewDefinition,
    branches: &[SelectQuery],
    notes: &[String],
    sections: &Sections<'_>,
) -> Explain {
    let inputs = branches.iter().map(|query| operators(query, &Strategy::Linear)).collect();
    let root = Operator { name: "union all".to_owned(), tier: Some(Tier::A), inputs };
    let tier = branches.iter().map(|query| Strategy::Linear.tier(query)).max().unwrap_or(Tier::A);
    let costs = vec![cost::union_all(definition, branches)];
    Explain { costs, ..described(definition, root, tier, notes, sections) }
}

fn described(
    definition: &ViewDefinition,
    root: Operator,
    tier: Tier,
    notes: &[String],
    sections: &Sections<'_>,
) -> Explain {
    Explain {
        view: definition.name.clone(),
        tier,
        root,
        bases: definition.bases.clone(),
        indexes: definition.indexes.iter().map(described_index).collect(),
        statements: statements(sections),
        notes: describe(definition).into_iter().chain(notes.iter().cloned()).collect(),
        costs: vec![],
    }
}

fn described_index(index: &Index) -> String {
    let described = format!("{} ({})", index.table, index.columns.join(", "));
    match index.changes_of.as_slice() {
        [] => described,
        bases => format!("{described}, made with the first change of {}", bases.join(" or ")),
    }
}

/// The operators of a block below its projection.
fn operators(query: &SelectQuery, strategy: &Strategy) -> Operator {
    let mut root = joins(query, strategy);
    if !query.filter.is_empty() {
        let conditions: Vec<String> =
            query.filter.iter().map(|filter| render(filter, &Render(query))).collect();
        root = wrap(format!("filter {}", conditions.join(" AND ")), Some(row_tier(strategy)), root);
    }
    if let Some(group) = &query.group {
        let group: Vec<String> = group.iter().map(|expr| render(expr, &Render(query))).collect();
        let tier = if *strategy == Strategy::Aggregate { Tier::B } else { strategy.tier(query) };
        let name =
            if group.is_empty() { "aggregate".to_owned() } else { format!("group by {}", group.join(", ")) };
        root = wrap(name, Some(tier), root);
    }
    if let Some(having) = &query.having {
        root = wrap(format!("having {}", render(having, &Render(query))), Some(strategy.tier(query)), root);
    }
    let mut windows: Vec<String> = vec![];
    for window in query.windows() {
        let window = render(&Scalar::Window(Box::new(window.clone())), &Render(query));
        if !windows.contains(&window) {
            windows.push(window);
        }
    }
    if !windows.is_empty() {
        root = wrap(format!("window {}", windows.join(", ")), Some(strategy.tier(query)), root);
    }
    if let Some(top) = &query.top {
        root = wrap(first_rows(query, top), Some(Tier::E), root);
    }
    root
}

fn first_rows(query: &SelectQuery, top: &Top) -> String {
    let names = Render(query);
    let mut name = format!("first {}", top.limit);
    if top.offset > 0 {
        name.push_str(&format!(" behind {}", top.offset));
    }
    if !top.partition.is_empty() {
        let partition: Vec<String> = top.partition.iter().map(|expr| render(expr, &names)).collect();
        name.push_str(&format!(" of each {}", partition.join(", ")));
    }
    format!("{name} by {}", sorted(&top.order, &names))
}

/// Tier of filters and projections: they are part of whatever recomputes the rows.
fn row_tier(strategy: &Strategy) -> Tier {
    match strategy {
        Strategy::Linear | Strategy::Aggregate => Tier::A,
        Strategy::Recompute(_) => Tier::D,
        Strategy::Top(_) => Tier::E,
        Strategy::Full => Tier::F,
    }
}

fn wrap(name: String, tier: Option<Tier>, input: Operator) -> Operator {
    Operator { name, tier, inputs: vec![input] }
}

fn joins(query: &SelectQuery, strategy: &Strategy) -> Operator {
    let leaf = |index: usize| {
        let joined = &query.relations[index];
        let table = &joined.base.base.table;
        let name =
            if joined.alias == *table { table.clone() } else { format!("{table} as {}", joined.alias) };
        Operator { name: format!("read {name}"), tier: None, inputs: vec![] }
    };
    let tier = match strategy {
        Strategy::Linear | Strategy::Aggregate => Tier::C,
        Strategy::Recompute(_) => Tier::D,
        Strategy::Top(_) => Tier::E,
        Strategy::Full => Tier::F,
    };
    (1..query.relations.len()).fold(leaf(0), |left, index| {
        let joined = &query.relations[index];
        let on: Vec<String> = joined.on.iter().map(|on| render(on, &Render(query))).collect();
        let kind = if joined.kind == JoinKind::Left { "left join" } else { "join" };
        let name = if on.is_empty() { kind.to_owned() } else { format!("{kind} on {}", on.join(" AND ")) };
        Operator { name, tier: Some(tier), inputs: vec![left, leaf(index)] }
    })
}

/// The statements by phase.
pub(crate) fn statements(sections: &Sections<'_>) -> Vec<Statements> {
    let mut shown: Vec<Statements> = vec![];
    for step in sections.maintain {
        let phase = match &step.phase {
            Phase::Before(table) => format!("before {table}"),
            Phase::After(table) => format!("after {table}"),
            Phase::Finish => "finish".to_owned(),
        };
        match shown.iter_mut().find(|statements| statements.phase == phase) {
            Some(statements) => {
                statements.sql.push(step.action.shown());
                statements.most += step.action.counted();
            }
            None => {
                let most = step.action.counted();
                shown.push(Statements { phase, sql: vec![step.action.shown()], most });
            }
        }
    }
    for (phase, actions) in [("apply", sections.apply), ("record", sections.record)] {
        let sql = actions.iter().map(Action::shown).collect();
        let most = actions.iter().map(Action::counted).sum();
        shown.push(Statements { phase: phase.to_owned(), sql, most });
    }
    shown
}

fn describe(definition: &ViewDefinition) -> Vec<String> {
    let mut notes = vec![];
    let kind = if definition.options.key.is_empty() { "derived" } else { "declared" };
    notes.push(match definition.key.as_slice() {
        [] => "never more than one row".to_owned(),
        key => format!("key ({}), {kind}", key.join(", ")),
    });
    if definition.storage != definition.stem() {
        let hidden: Vec<&str> = definition.hidden.iter().map(|hidden| hidden.column.name.as_str()).collect();
        notes.push(format!("rows in {} with hidden columns {}", definition.storage, hidden.join(", ")));
    }
    if !definition.stored {
        notes.push("rows are read from the bases, not stored".to_owned());
    }
    notes
}
