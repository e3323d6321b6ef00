//! How a view is maintained, for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::BaseRelation;

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
    /// Indexes made on the bases, as `table(columns)`.
    pub indexes: Vec<String>,
    /// Statements per phase.
    pub statements: Vec<Statements>,
    /// What a reader should know: costs, hidden columns, derived key.
    pub notes: Vec<String>,
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        for index in &self.indexes {
            writeln!(f, "index {index}")?;
        }
        for note in &self.notes {
            writeln!(f, "note {note}")?;
        }
        for statements in &self.statements {
            writeln!(f, "{}", statements.phase)?;
            for sql in &statements.sql {
                writeln!(f, "  {sql}")?;
            }
        }
        Ok(())
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
