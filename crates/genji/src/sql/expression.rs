//! Expressions: what may stand for a value. How their text becomes them is in `operators` and `operand`, what they are
//! worth in `evaluate`, and their text in `render`.

use deltamesh_change::Value;

use super::math::MathFunction;
use super::scanner::Position;
use crate::catalog::{FieldType, Path};

/// An expression with the place of each part that can fail.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A value as written.
    Literal(Value),
    /// The positional parameter of that index, from 0.
    Parameter(usize, Position),
    /// The parameter of that name, `$name`.
    Named(String, Position),
    /// A field of the row.
    Path(Path, Position),
    /// The key of the row, `pk()`: an array of its values, the docid where there is no primary key.
    Key(Position),
    /// `[a, b]`, `(a, b)`
    Array(Vec<Expression>),
    /// `{name: a}`
    Document(Vec<(String, Expression)>),
    /// `(a)`
    Group(Box<Expression>),
    /// `NOT a`
    Not(Box<Expression>),
    /// `left operator right`
    Binary(Box<Expression>, Operator, Box<Expression>),
    /// `value BETWEEN low AND high`
    Between(Box<[Expression; 3]>),
    /// `CAST(a AS type)`
    Cast(Box<Expression>, FieldType, Position),
    /// `typeof(a)`, `len(a)`, `math.abs(a)`
    Call(Function, Box<Expression>),
    /// `COUNT(*)`, `SUM(a)`: only in what a SELECT returns.
    Aggregate(Aggregate, Option<Box<Expression>>, Position),
    /// `NEXT VALUE FOR sequence`
    NextValue(String, Position),
}

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `OR`
    Or,
    /// `AND`
    And,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `IS`
    Is,
    /// `IS NOT`
    IsNot,
    /// `IN`
    In,
    /// `NOT IN`
    NotIn,
    /// `LIKE`
    Like,
    /// `NOT LIKE`
    NotLike,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `&`
    BitAnd,
    /// `|`
    BitOr,
    /// `^`
    BitXor,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
    /// `||`
    Concatenate,
}

/// A function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// The name of the value's type.
    TypeOf,
    /// Bytes of a text, elements of an array, fields of a document; NULL for anything else.
    Length,
    /// One of the package `math`.
    Math(MathFunction),
}

/// A function over the rows of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Rows, or values that are not NULL.
    Count,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// The sum of the numbers; NULL without any.
    Sum,
    /// The mean of the numbers; 0 without any.
    Average,
}

/// The values that a statement's parameters take.
#[derive(Debug, Clone, Copy)]
pub enum Parameters<'a> {
    /// For `?`, in order.
    Positional(&'a [Value]),
    /// For `$name`.
    Named(&'a [(String, Value)]),
}

impl Operator {
    /// How tightly it binds.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal
            | Self::NotEqual
            | Self::Is
            | Self::IsNot
            | Self::In
            | Self::NotIn
            | Self::Like
            | Self::NotLike => 4,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => 5,
            Self::BitAnd | Self::BitOr | Self::BitXor => 6,
            Self::Add | Self::Subtract => 7,
            Self::Multiply | Self::Divide | Self::Remainder => 8,
            Self::Concatenate => 9,
        }
    }

    /// As it is written.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::Or => "OR",
            Self::And => "AND",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Is => "IS",
            Self::IsNot => "IS NOT",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::Like => "LIKE",
            Self::NotLike => "NOT LIKE",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Concatenate => "||",
        }
    }
}

impl Expression {
    /// Whether it or a part of it is so.
    pub(crate) fn any(&self, is: &mut dyn FnMut(&Self) -> bool) -> bool {
        is(self)
            || match self {
                Self::Literal(_)
                | Self::Parameter(..)
                | Self::Named(..)
                | Self::Path(..)
                | Self::Key(_)
                | Self::NextValue(..) => false,
                Self::Array(items) => items.iter().any(|item| item.any(is)),
                Self::Document(fields) => fields.iter().any(|(_, field)| field.any(is)),
                Self::Group(inner) | Self::Not(inner) | Self::Cast(inner, ..) | Self::Call(_, inner) => {
                    inner.any(is)
                }
                Self::Binary(left, _, right) => left.any(is) || right.any(is),
                Self::Between(parts) => parts.iter().any(|part| part.any(is)),
                Self::Aggregate(_, inner, _) => inner.as_ref().is_some_and(|inner| inner.any(is)),
            }
    }

    /// Whether it has the same value for every row.
    pub(crate) fn is_constant(&self) -> bool {
        !self.any(&mut |part| {
            matches!(part, Self::Path(..) | Self::Key(_) | Self::NextValue(..) | Self::Aggregate(..))
        })
    }

    /// Whether it moves a sequence.
    pub(crate) fn takes_values(&self) -> bool {
        self.any(&mut |part| matches!(part, Self::NextValue(..)))
    }

    /// The paths in it, each once.
    pub(crate) fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.any(&mut |part| {
            if let Self::Path(path, _) = part
                && !paths.contains(path)
            {
                paths.push(path.clone());
            }
            false
        });
        paths
    }
}
