//! Expressions: a closed list of what SQLite (and later other replicas) evaluates the same way.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, Expr, Spanned, TrimWhereField,
    UnaryOperator, Value,
};

use deltamesh_change::ColumnType;

use super::call::{VOLATILE, volatile};
use super::scope::Scope;
use super::{moment, rewritten, temporal};
use crate::query::{Output, Scalar};
use crate::{Error, Location};

pub(super) fn resolve(scope: &Scope, expr: &Expr) -> Result<Scalar, Error> {
    resolve_with(scope, expr, &[])
}

/// Resolves an expression; a name that no relation has may be one of `outputs`.
pub(super) fn resolve_with(scope: &Scope, expr: &Expr, outputs: &[Output]) -> Result<Scalar, Error> {
    Resolver { scope, outputs }.scalar(expr)
}

pub(super) struct Resolver<'a> {
    pub(super) scope: &'a Scope,
    outputs: &'a [Output],
}

impl Resolver<'_> {
    pub(super) fn scalar(&self, expr: &Expr) -> Result<Scalar, Error> {
        let location = Location::of(expr.span());
        if let Some(constant) = temporal::constant(expr, location) {
            return constant;
        }
        match expr {
            Expr::Identifier(name) => self.name(name),
            Expr::CompoundIdentifier(parts) => Ok(Scalar::Column(self.scope.qualified_column(parts)?)),
            Expr::Value(value) => literal(&value.value, location),
            Expr::Nested(inner) => self.scalar(inner),
            Expr::UnaryOp { op, expr } => self.unary(op, expr, location),
            Expr::BinaryOp {
                op:
                    BinaryOperator::Arrow
                    | BinaryOperator::LongArrow
                    | BinaryOperator::HashArrow
                    | BinaryOperator::HashLongArrow,
                ..
            } => self.document(expr, location),
            Expr::BinaryOp { left, op, right } => {
                if let Some(moved) = self.moment(expr, location)? {
                    return Ok(moved);
                }
                if let (Expr::Tuple(left), BinaryOperator::Eq, Expr::Tuple(right)) = (&**left, op, &**right) {
                    return self.same_values(left, right, location);
                }
                let operator = binary(op, location)?;
                Ok(Scalar::Binary(self.boxed(left)?, operator, self.boxed(right)?))
            }
            Expr::IsDistinctFrom(left, right) => {
                Ok(Scalar::Binary(self.boxed(left)?, "IS DISTINCT FROM", self.boxed(right)?))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                Ok(Scalar::Binary(self.boxed(left)?, "IS NOT DISTINCT FROM", self.boxed(right)?))
            }
            Expr::IsUnknown(operand) => self.postfix(operand, "IS NULL"),
            Expr::IsNotUnknown(operand) => self.postfix(operand, "IS NOT NULL"),
            Expr::IsNull(operand) => self.postfix(operand, "IS NULL"),
            Expr::IsNotNull(operand) => self.postfix(operand, "IS NOT NULL"),
            Expr::IsTrue(operand) => self.postfix(operand, "IS TRUE"),
            Expr::IsNotTrue(operand) => self.postfix(operand, "IS NOT TRUE"),
            Expr::IsFalse(operand) => self.postfix(operand, "IS FALSE"),
            Expr::IsNotFalse(operand) => self.postfix(operand, "IS NOT FALSE"),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                array: false,
                format: None,
            } => match data_type {
                DataType::Date => temporal::truncate("day", self.time(expr)?, location),
                other => Ok(Scalar::Cast(self.boxed(expr)?, cast_type(other, location)?)),
            },
            Expr::Function(function) => self.call(function, location),
            other => self.compound(other, location),
        }
    }

    /// Expressions of several operands, with words between them.
    fn compound(&self, expr: &Expr, location: Option<Location>) -> Result<Scalar, Error> {
        match expr {
            Expr::Between { expr, negated, low, high } => Ok(Scalar::Between {
                operand: self.boxed(expr)?,
                negated: *negated,
                low: self.boxed(low)?,
                high: self.boxed(high)?,
            }),
            Expr::InList { expr, list, negated } if matches!(**expr, Expr::Tuple(_)) => {
                let Expr::Tuple(values) = &**expr else { return Err(refuse(expr, location)) };
                let one = |item: &Expr| match item {
                    Expr::Tuple(of) => self.same_values(values, of, location),
                    other => Err(refuse(other, location)),
                };
                let all = list.iter().map(one).collect::<Result<Vec<_>, _>>()?;
                let or = |left, right| Scalar::binary(left, "OR", right);
                let any = all.into_iter().reduce(or).ok_or_else(|| refuse(expr, location))?;
                Ok(if *negated { Scalar::Unary("NOT", Box::new(any)) } else { any })
            }
            Expr::InList { expr, list, negated } => Ok(Scalar::InList {
                operand: self.boxed(expr)?,
                negated: *negated,
                list: list.iter().map(|item| self.scalar(item)).collect::<Result<_, _>>()?,
            }),
            Expr::Like { negated, any: false, expr, pattern, escape_char }
            | Expr::ILike { negated, any: false, expr, pattern, escape_char } => Ok(Scalar::Like {
                operand: self.boxed(expr)?,
                negated: *negated,
                pattern: self.boxed(pattern)?,
                escape: escape_char.as_ref().map(|escape| escape.value.to_string()),
            }),
            Expr::Case { operand, conditions, else_result, .. } => Ok(Scalar::Case {
                operand: operand.as_deref().map(|operand| self.boxed(operand)).transpose()?,
                branches: conditions
                    .iter()
                    .map(|when| Ok((self.scalar(&when.condition)?, self.scalar(&when.result)?)))
                    .collect::<Result<_, Error>>()?,
                otherwise: else_result.as_deref().map(|otherwise| self.boxed(otherwise)).transpose()?,
            }),
            other => self.text_function(other, location),
        }
    }

    /// Text functions with a syntax of their own.
    fn text_function(&self, expr: &Expr, location: Option<Location>) -> Result<Scalar, Error> {
        match expr {
            Expr::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                let name = match trim_where {
                    None | Some(TrimWhereField::Both) => "trim",
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                };
                let arguments = std::iter::once(&**expr).chain(trim_what.as_deref());
                Ok(Scalar::Call(
                    name,
                    arguments.map(|argument| self.scalar(argument)).collect::<Result<_, _>>()?,
                ))
            }
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let arguments = [&**expr, &**from].into_iter().chain(substring_for.as_deref());
                Ok(Scalar::Call(
                    "substr",
                    arguments.map(|argument| self.scalar(argument)).collect::<Result<_, _>>()?,
                ))
            }
            Expr::Extract { field: DateTimeField::Epoch, expr, .. } if difference(expr).is_some() => {
                let (left, right) = difference(expr).unwrap_or((expr, expr));
                let (left, right) = (moment::epoch(&self.time(left)?), moment::epoch(&self.time(right)?));
                Ok(Scalar::binary(left, "-", right))
            }
            Expr::Extract { field, expr, .. } => temporal::extract(field, self.time(expr)?, location),
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                Ok(Scalar::Call("ceil", vec![self.scalar(expr)?]))
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                Ok(Scalar::Call("floor", vec![self.scalar(expr)?]))
            }
            Expr::Position { expr, r#in } => {
                Ok(Scalar::Call("instr", vec![self.scalar(r#in)?, self.scalar(expr)?]))
            }
            other => Err(refuse(other, location)),
        }
    }

    /// `a = x AND b = y`.
    fn same_values(
        &self,
        left: &[Expr],
        right: &[Expr],
        location: Option<Location>,
    ) -> Result<Scalar, Error> {
        if left.len() != right.len() {
            let message = format!("{} values are compared with {}", left.len(), right.len());
            return Err(Error::types_at(message, location));
        }
        let pair = |(left, right)| Ok(Scalar::Binary(self.boxed(left)?, "=", self.boxed(right)?));
        let pairs = left.iter().zip(right).map(pair).collect::<Result<Vec<_>, Error>>()?;
        pairs.into_iter().reduce(Scalar::and).ok_or_else(|| Error::types_at("no values", location))
    }

    /// A value in a document: as text, or as a document of its own.
    fn document(&self, expr: &Expr, location: Option<Location>) -> Result<Scalar, Error> {
        let (document, path) = rewritten::document_path(expr, location)?;
        let document = self.scalar(document)?;
        if !self.is_document(&document) {
            return Err(Error::types_at("-> and ->> read a column of documents or arrays", location));
        }
        let is_text = matches!(
            expr,
            Expr::BinaryOp { op: BinaryOperator::LongArrow | BinaryOperator::HashLongArrow, .. }
        );
        let name = if is_text { "json_text" } else { "json_value" };
        Ok(Scalar::Call(name, vec![document, Scalar::text(&path)]))
    }

    pub(super) fn is_document(&self, of: &Scalar) -> bool {
        let column = of
            .as_column()
            .map(|column| self.scope.relations()[column.relation].base.columns[column.column].column_type);
        column == Some(ColumnType::Json) || matches!(of, Scalar::Call("json_value", _))
    }

    /// A moment that intervals move, or the days between two dates.
    fn moment(&self, expr: &Expr, location: Option<Location>) -> Result<Option<Scalar>, Error> {
        if let Some(moved) = moment::Moved::read(expr) {
            let times = moved.times.map(|times| self.scalar(times)).transpose()?;
            return moved.text(self.time(moved.moment)?, times, location).map(Some);
        }
        let Some((left, right)) = moment::between_dates(expr) else { return Ok(None) };
        let days = |of: &Expr| Ok::<_, Error>(Box::new(moment::days(self.time(of)?)));
        Ok(Some(Scalar::Binary(days(left)?, "-", days(right)?)))
    }

    /// A date or time: text.
    pub(super) fn time(&self, expr: &Expr) -> Result<Scalar, Error> {
        let of = self.scalar(expr)?;
        check_size(&[&of], LARGEST_TIME, Location::of(expr.span()))?;
        if let Scalar::Literal(text) = &of
            && text.eq_ignore_ascii_case("'now'")
        {
            return Err(volatile("'now'", Location::of(expr.span())));
        }
        if let Some(column) = of.as_column() {
            let column = &self.scope.relations()[column.relation].base.columns[column.column];
            if !matches!(column.column_type, ColumnType::Text | ColumnType::Any) {
                let message = format!("{} is no text: dates and times are text in ISO form", column.name);
                return Err(Error::types_at(message, Location::of(expr.span())));
            }
        }
        Ok(of)
    }

    fn boxed(&self, expr: &Expr) -> Result<Box<Scalar>, Error> {
        self.scalar(expr).map(Box::new)
    }

    fn name(&self, name: &datafusion_sql::sqlparser::ast::Ident) -> Result<Scalar, Error> {
        if self.scope.find_column(name)?.is_none() {
            if let Some(output) =
                self.outputs.iter().find(|output| output.name.eq_ignore_ascii_case(&name.value))
            {
                return Ok(output.expr.clone());
            }
            if name.quote_style.is_none() && VOLATILE.contains(&name.value.to_ascii_lowercase().as_str()) {
                return Err(volatile(&name.value, Location::of(name.span)));
            }
        }
        Ok(Scalar::Column(self.scope.column(name)?))
    }

    fn postfix(&self, operand: &Expr, words: &'static str) -> Result<Scalar, Error> {
        Ok(Scalar::Postfix(self.boxed(operand)?, words))
    }

    fn unary(&self, op: &UnaryOperator, operand: &Expr, location: Option<Location>) -> Result<Scalar, Error> {
        let operator = match op {
            UnaryOperator::Minus => "-",
            UnaryOperator::Plus => "+",
            UnaryOperator::Not => "NOT",
            UnaryOperator::BitwiseNot => {
                return Err(Error::unsupported("operator ~: write -x - 1", location));
            }
            _ => return Err(Error::unsupported(format!("operator {op} has no rule"), location)),
        };
        Ok(Scalar::Unary(operator, self.boxed(operand)?))
    }
}

/// Largest date or time that is calculated with, which repeats it dozens of times.
const LARGEST_TIME: usize = 100;
/// Largest arguments that other functions may repeat a few times.
pub(super) const LARGEST: usize = 1000;

/// Refuses expressions that a function which is another expression would repeat too often.
pub(super) fn check_size(of: &[&Scalar], largest: usize, location: Option<Location>) -> Result<(), Error> {
    if of.iter().fold(0_usize, |sum, of| sum.saturating_add(of.size())) <= largest {
        return Ok(());
    }
    let message =
        "functions within functions become too long: calculate the inner ones in a subquery in FROM";
    Err(Error::unsupported(message, location))
}

/// The sides of a difference of two moments.
fn difference(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match expr {
        Expr::Nested(inner) => difference(inner),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if moment::Moved::read(expr).is_none() => {
            Some((&**left, &**right))
        }
        _ => None,
    }
}

const PATTERNS: &str = "databases differ in patterns: write LIKE, or substr with strpos";

fn refuse(expr: &Expr, location: Option<Location>) -> Error {
    let message = match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
            "a subquery in an expression is not supported yet: make it a view of its own and JOIN it"
        }
        Expr::Collate { .. } => "COLLATE is not supported in a view: compare lower(column)",
        Expr::Tuple(_) => "a row of values: write a = x AND b = y",
        Expr::SimilarTo { .. } | Expr::RLike { .. } => PATTERNS,
        Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => {
            "LIKE ANY: write x LIKE a OR x LIKE b"
        }
        Expr::AnyOp { .. } | Expr::AllOp { .. } => {
            "ANY and ALL: write x IN (…), or compare with (SELECT min(y) …) or max(y)"
        }
        Expr::AtTimeZone { .. } => {
            "AT TIME ZONE: times are kept as their text says them, move them by + interval '2' hour"
        }
        Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => {
            "several groupings at once: make one view for each and join them by UNION ALL"
        }
        Expr::CompoundFieldAccess { .. } | Expr::JsonAccess { .. } => {
            "a place in a document: write document -> 'key', or document ->> 'key' for a text"
        }
        Expr::Array(_) => "an array: write x IN (1, 2)",
        _ => "this expression has no rule in a view: use columns, operators, CASE, CAST and functions",
    };
    Error::unsupported(message, location)
}

fn literal(value: &Value, location: Option<Location>) -> Result<Scalar, Error> {
    match value {
        Value::Number(number, false) => Ok(Scalar::Literal(number.clone())),
        Value::SingleQuotedString(text) => Ok(Scalar::text(text)),
        Value::Boolean(truth) => Ok(Scalar::Literal(if *truth { "TRUE" } else { "FALSE" }.to_owned())),
        Value::Null => Ok(Scalar::Literal("NULL".to_owned())),
        Value::Placeholder(_) => {
            Err(Error::unsupported("a view has no parameters: write the value", location))
        }
        other => Err(Error::unsupported(format!("literal {other}: write a number or 'text'"), location)),
    }
}

fn binary(op: &BinaryOperator, location: Option<Location>) -> Result<&'static str, Error> {
    Ok(match op {
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::StringConcat => "||",
        BinaryOperator::Gt => ">",
        BinaryOperator::Lt => "<",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Eq => "=",
        BinaryOperator::NotEq => "<>",
        BinaryOperator::And => "AND",
        BinaryOperator::Or => "OR",
        BinaryOperator::BitwiseAnd => "&",
        BinaryOperator::BitwiseOr => "|",
        other => {
            use BinaryOperator as Op;
            let instead = match other {
                Op::BitwiseXor | Op::PGExp => "write power(x, 2)",
                Op::PGRegexMatch | Op::PGRegexIMatch | Op::PGRegexNotMatch | Op::PGRegexNotIMatch => PATTERNS,
                Op::Match | Op::Regexp => PATTERNS,
                Op::AtArrow | Op::ArrowAt | Op::Question => "compare document ->> 'key'",
                _ => "use +, -, *, /, %, ||, comparisons, AND, OR and NOT",
            };
            return Err(Error::unsupported(format!("operator {other}: {instead}"), location));
        }
    })
}

fn cast_type(data_type: &DataType, location: Option<Location>) -> Result<&'static str, Error> {
    Ok(match data_type {
        DataType::Int(_) | DataType::Integer(_) | DataType::BigInt(_) | DataType::SmallInt(_) => "INTEGER",
        DataType::Real | DataType::Double(_) | DataType::DoublePrecision | DataType::Float(_) => "REAL",
        DataType::Text | DataType::Varchar(None) | DataType::String(None) => "TEXT",
        DataType::Blob(None) | DataType::Bytea => "BLOB",
        DataType::Boolean | DataType::Bool => {
            return Err(Error::unsupported("CAST to BOOLEAN: write x <> 0", location));
        }
        DataType::Timestamp(..) | DataType::Datetime(_) | DataType::Time(..) => {
            let message = format!("CAST to {data_type}: times are text in ISO form, leave it out");
            return Err(Error::unsupported(message, location));
        }
        other => {
            let message = format!("CAST to {other}: write INTEGER, REAL, TEXT or BLOB");
            return Err(Error::unsupported(message, location));
        }
    })
}
