//! A resolved `SELECT`: every name stands for a column of a base, every construct is one that has a maintenance rule.

use crate::catalog::CatalogRelation;
use crate::{Dialect, Location, Order};

/// A column of one of the query's relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ColumnRef {
    /// Index into [`SelectQuery::relations`].
    pub(crate) relation: usize,
    /// Index into the relation's columns.
    pub(crate) column: usize,
}

/// An expression over the relations' columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar {
    Column(ColumnRef),
    /// Number, `'text'`, `TRUE`, `FALSE` or `NULL`, as SQL.
    Literal(String),
    /// Operator with its SQL spelling.
    Unary(&'static str, Box<Scalar>),
    Binary(Box<Scalar>, &'static str, Box<Scalar>),
    /// `expr IS NULL` and its kin: the words behind the operand.
    Postfix(Box<Scalar>, &'static str),
    Between {
        operand: Box<Scalar>,
        negated: bool,
        low: Box<Scalar>,
        high: Box<Scalar>,
    },
    InList {
        operand: Box<Scalar>,
        negated: bool,
        list: Vec<Scalar>,
    },
    Like {
        operand: Box<Scalar>,
        negated: bool,
        pattern: Box<Scalar>,
        escape: Option<String>,
    },
    Case {
        operand: Option<Box<Scalar>>,
        branches: Vec<(Scalar, Scalar)>,
        otherwise: Option<Box<Scalar>>,
    },
    Cast(Box<Scalar>, &'static str),
    Call(&'static str, Vec<Scalar>),
    Aggregate(Box<Aggregate>),
}

/// An aggregate call; a `FILTER` clause has become a `CASE` in the argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aggregate {
    pub(crate) function: AggregateFunction,
    pub(crate) distinct: bool,
    /// `None` is `count(*)`.
    pub(crate) argument: Option<Scalar>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

impl AggregateFunction {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }
}

/// How a relation is joined to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinKind {
    /// Inner join, cross join, or the first relation.
    Inner,
    /// Left outer join: the relation's columns may be missing.
    Left,
}

/// One entry of the `FROM` clause.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    /// Name that the query's columns are qualified with; unique without case.
    pub(crate) alias: String,
    pub(crate) base: CatalogRelation,
    pub(crate) kind: JoinKind,
    /// Conjuncts of its `ON` clause.
    pub(crate) on: Vec<Scalar>,
}

/// One column of the result.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) expr: Scalar,
}

/// A resolved `SELECT`.
#[derive(Debug, Clone)]
pub(crate) struct SelectQuery {
    pub(crate) dialect: Dialect,
    pub(crate) relations: Vec<Joined>,
    /// Conjuncts of the `WHERE` clause.
    pub(crate) filter: Vec<Scalar>,
    /// `GROUP BY` expressions; `Some` of nothing is an aggregate over everything.
    pub(crate) group: Option<Vec<Scalar>>,
    pub(crate) having: Option<Scalar>,
    pub(crate) distinct: bool,
    pub(crate) outputs: Vec<Output>,
    pub(crate) order_by: Vec<Order>,
    /// Where the `SELECT` begins.
    pub(crate) location: Option<Location>,
}

impl Scalar {
    pub(crate) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Column(_) | Self::Literal(_) => vec![],
            Self::Unary(_, operand) | Self::Postfix(operand, _) | Self::Cast(operand, _) => vec![operand],
            Self::Binary(left, _, right) => vec![left, right],
            Self::Between { operand, low, high, .. } => vec![operand, low, high],
            Self::InList { operand, list, .. } => std::iter::once(&**operand).chain(list).collect(),
            Self::Like { operand, pattern, .. } => vec![operand, pattern],
            Self::Case { operand, branches, otherwise } => operand
                .as_deref()
                .into_iter()
                .chain(branches.iter().flat_map(|(when, then)| [when, then]))
                .chain(otherwise.as_deref())
                .collect(),
            Self::Call(_, arguments) => arguments.iter().collect(),
            Self::Aggregate(aggregate) => aggregate.argument.iter().collect(),
        }
    }

    /// The column that the expression is.
    pub(crate) fn as_column(&self) -> Option<ColumnRef> {
        match self {
            Self::Column(column) => Some(*column),
            _ => None,
        }
    }

    /// Every column in the expression.
    pub(crate) fn columns(&self) -> Vec<ColumnRef> {
        match self {
            Self::Column(column) => vec![*column],
            _ => self.children().into_iter().flat_map(Self::columns).collect(),
        }
    }

    /// Every aggregate in the expression.
    pub(crate) fn aggregates(&self) -> Vec<&Aggregate> {
        match self {
            Self::Aggregate(aggregate) => vec![aggregate],
            _ => self.children().into_iter().flat_map(Self::aggregates).collect(),
        }
    }

    /// Splits at `AND`.
    pub(crate) fn conjuncts(self) -> Vec<Self> {
        match self {
            Self::Binary(left, "AND", right) => {
                let mut conjuncts = left.conjuncts();
                conjuncts.extend(right.conjuncts());
                conjuncts
            }
            other => vec![other],
        }
    }

    /// Indexes of the relations that the expression reads.
    pub(crate) fn relations(&self) -> Vec<usize> {
        let mut relations: Vec<usize> = self.columns().iter().map(|column| column.relation).collect();
        relations.sort_unstable();
        relations.dedup();
        relations
    }
}

impl SelectQuery {
    pub(crate) fn column(&self, column: ColumnRef) -> &deltamesh_change::Column {
        &self.relations[column.relation].base.columns[column.column]
    }

    /// Every `ON` and `WHERE` conjunct of an inner join.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Scalar> {
        self.relations.iter().flat_map(|joined| &joined.on).chain(&self.filter)
    }

    /// Columns of a relation that identify its rows.
    pub(crate) fn key_of(&self, relation: usize) -> Vec<ColumnRef> {
        let base = &self.relations[relation].base;
        base.key.iter().map(|&column| ColumnRef { relation, column }).collect()
    }
}
