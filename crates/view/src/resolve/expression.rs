//! Expressions: a closed list of what SQLite (and later other replicas) evaluates the same way.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, ObjectName, Spanned, TrimWhereField, UnaryOperator, Value, WindowType,
};

use deltamesh_change::ColumnType;

use super::scope::Scope;
use super::{nearest, rewritten, temporal, window};
use crate::query::{Aggregate, AggregateFunction, Output, Scalar};
use crate::{Error, Location};

/// Scalar functions: name as written, name in SQLite, fewest and most arguments.
pub(crate) const FUNCTIONS: &[(&str, &str, usize, usize)] = &[
    ("abs", "abs", 1, 1),
    ("char_length", "length", 1, 1),
    ("coalesce", "coalesce", 2, 100),
    ("ifnull", "coalesce", 2, 2),
    ("instr", "instr", 2, 2),
    ("length", "length", 1, 1),
    ("lower", "lower", 1, 1),
    ("ltrim", "ltrim", 1, 2),
    ("nullif", "nullif", 2, 2),
    ("replace", "replace", 3, 3),
    ("rtrim", "rtrim", 1, 2),
    ("round", "round", 1, 2),
    ("substr", "substr", 2, 3),
    ("substring", "substr", 2, 3),
    ("trim", "trim", 1, 2),
    ("upper", "upper", 1, 1),
];

/// Functions whose result is not decided by their arguments.
const VOLATILE: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "gen_random_uuid",
    "localtime",
    "localtimestamp",
    "now",
    "random",
    "randomblob",
    "rand",
    "uuid",
];

pub(super) fn resolve(scope: &Scope, expr: &Expr) -> Result<Scalar, Error> {
    resolve_with(scope, expr, &[])
}

/// Resolves an expression; a name that no relation has may be one of `outputs`.
pub(super) fn resolve_with(scope: &Scope, expr: &Expr, outputs: &[Output]) -> Result<Scalar, Error> {
    Resolver { scope, outputs }.scalar(expr)
}

struct Resolver<'a> {
    scope: &'a Scope,
    outputs: &'a [Output],
}

impl Resolver<'_> {
    fn scalar(&self, expr: &Expr) -> Result<Scalar, Error> {
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
            Expr::BinaryOp { op: BinaryOperator::LongArrow, .. } => self.document(expr, location),
            Expr::BinaryOp { left, op, right } => {
                let operator = binary(op, location)?;
                Ok(Scalar::Binary(self.boxed(left)?, operator, self.boxed(right)?))
            }
            Expr::IsDistinctFrom(left, right) => {
                Ok(Scalar::Binary(self.boxed(left)?, "IS DISTINCT FROM", self.boxed(right)?))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                Ok(Scalar::Binary(self.boxed(left)?, "IS NOT DISTINCT FROM", self.boxed(right)?))
            }
            Expr::IsNull(operand) => self.postfix(operand, "IS NULL"),
            Expr::IsNotNull(operand) => self.postfix(operand, "IS NOT NULL"),
            Expr::IsTrue(operand) => self.postfix(operand, "IS TRUE"),
            Expr::IsNotTrue(operand) => self.postfix(operand, "IS NOT TRUE"),
            Expr::IsFalse(operand) => self.postfix(operand, "IS FALSE"),
            Expr::IsNotFalse(operand) => self.postfix(operand, "IS NOT FALSE"),
            Expr::Between { expr, negated, low, high } => Ok(Scalar::Between {
                operand: self.boxed(expr)?,
                negated: *negated,
                low: self.boxed(low)?,
                high: self.boxed(high)?,
            }),
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
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                array: false,
                format: None,
            } => Ok(Scalar::Cast(self.boxed(expr)?, cast_type(data_type, location)?)),
            Expr::Function(function) => self.call(function, location),
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
            Expr::Extract { field, expr, .. } => temporal::extract(field, self.time(expr)?, location),
            Expr::Position { expr, r#in } => {
                Ok(Scalar::Call("instr", vec![self.scalar(r#in)?, self.scalar(expr)?]))
            }
            other => Err(refuse(other, location)),
        }
    }

    /// A value in a document, as text.
    fn document(&self, expr: &Expr, location: Option<Location>) -> Result<Scalar, Error> {
        let (document, path) = rewritten::document_path(expr, location)?;
        let document = self.scalar(document)?;
        let column = document
            .as_column()
            .map(|column| self.scope.relations()[column.relation].base.columns[column.column].column_type);
        if column != Some(ColumnType::Json) {
            return Err(Error::types_at("->> reads a column of documents or arrays", location));
        }
        Ok(Scalar::Call("json_text", vec![document, Scalar::Literal(crate::sql::quote_text(&path))]))
    }

    /// A date or time: text.
    fn time(&self, expr: &Expr) -> Result<Scalar, Error> {
        let of = self.scalar(expr)?;
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
            _ => return Err(Error::unsupported(format!("operator {op} has no rule"), location)),
        };
        Ok(Scalar::Unary(operator, self.boxed(operand)?))
    }

    fn call(&self, function: &Function, location: Option<Location>) -> Result<Scalar, Error> {
        let name = function_name(&function.name);
        if VOLATILE.contains(&name.as_str()) {
            return Err(volatile(&name, location));
        }
        if !function.within_group.is_empty() || function.null_treatment.is_some() {
            return Err(Error::unsupported(
                format!("{name} with such a clause has no rule: leave it out"),
                location,
            ));
        }
        if let Some(over) = &function.over {
            return self.window(&name, function, over, location);
        }
        let FunctionArguments::List(list) = &function.args else {
            return Err(Error::unsupported(format!("write {name}(arguments)"), location));
        };
        if !list.clauses.is_empty() {
            return Err(Error::unsupported(
                format!("{name} with a clause in its arguments: leave it out"),
                location,
            ));
        }
        if name == "date_trunc"
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(unit))), of] = list.args.as_slice()
            && let (Value::SingleQuotedString(unit), FunctionArg::Unnamed(FunctionArgExpr::Expr(of))) =
                (&unit.value, of)
        {
            return temporal::truncate(unit, self.time(of)?, location);
        }
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let aggregate = AggregateFunction::ALL.iter().find(|(known, _)| *known == name);
        if let Some((_, aggregate)) = aggregate
            && (list.args.len() == 1)
        {
            let call =
                self.aggregate(*aggregate, distinct, &list.args[0], function.filter.as_deref(), location)?;
            if call.children().into_iter().any(|part| !part.aggregates().is_empty()) {
                let message = "an aggregate in an aggregate: make the inner one a view of its own";
                return Err(Error::unsupported(message, location));
            }
            return Ok(call);
        }
        if rewritten::is_truths(&name)
            && let [argument] = list.args.as_slice()
        {
            let count = self.aggregate(
                AggregateFunction::Count,
                false,
                argument,
                function.filter.as_deref(),
                location,
            )?;
            let of = count.children().first().map(|of| (*of).clone());
            return of
                .filter(|of| of.aggregates().is_empty())
                .and_then(|of| rewritten::truths(&name, &of))
                .ok_or_else(|| Error::types_at(format!("{name} takes a condition"), location));
        }
        if distinct || function.filter.is_some() {
            return Err(Error::name(format!("{name} is not an aggregate of one argument"), location));
        }
        self.scalar_call(&name, &list.args, location)
    }

    fn scalar_call(
        &self,
        name: &str,
        arguments: &[FunctionArg],
        location: Option<Location>,
    ) -> Result<Scalar, Error> {
        let rewritten = rewritten::NAMES.iter().find(|(known, ..)| *known == name);
        let known = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        let Some((fewest, most)) = rewritten
            .map(|(_, fewest, most)| (fewest, most))
            .or(known.map(|(_, _, fewest, most)| (fewest, most)))
        else {
            let names = FUNCTIONS.iter().map(|(name, ..)| *name);
            let names = names.chain(rewritten::NAMES.iter().map(|(name, ..)| *name));
            let names = names.chain(AggregateFunction::ALL.map(|(name, _)| name));
            return Err(Error::name(format!("no function {name}{}", nearest(name, names)), location));
        };
        if !(*fewest..=*most).contains(&arguments.len()) {
            let message = format!("{name} takes {fewest} to {most} arguments, not {}", arguments.len());
            return Err(Error::types_at(message, location));
        }
        let arguments = arguments.iter().map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.scalar(expr),
            other => Err(Error::types_at(format!("{name} cannot take {other}"), location)),
        });
        let arguments = arguments.collect::<Result<_, _>>()?;
        match known {
            Some((_, sqlite, ..)) => Ok(Scalar::Call(sqlite, arguments)),
            None => rewritten::function(name, arguments, location),
        }
    }

    /// A call with `OVER`.
    fn window(
        &self,
        name: &str,
        function: &Function,
        over: &WindowType,
        location: Option<Location>,
    ) -> Result<Scalar, Error> {
        let aggregate = AggregateFunction::ALL.iter().find(|(known, _)| *known == name);
        let aggregate = match (aggregate, &function.args) {
            (Some((_, aggregate)), FunctionArguments::List(list)) if list.args.len() == 1 => {
                let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
                let filter = function.filter.as_deref();
                Some(self.aggregate(*aggregate, distinct, &list.args[0], filter, location)?)
            }
            _ => None,
        };
        window::call(self.scope, name, function, over, aggregate, &|expr| self.scalar(expr))
    }

    fn aggregate(
        &self,
        function: AggregateFunction,
        distinct: bool,
        argument: &FunctionArg,
        filter: Option<&Expr>,
        location: Option<Location>,
    ) -> Result<Scalar, Error> {
        let argument = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(self.scalar(expr)?),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard)
                if function == AggregateFunction::Count && !distinct =>
            {
                None
            }
            other => {
                return Err(Error::types_at(format!("{} cannot take {other}", function.name()), location));
            }
        };
        let filter = filter.map(|filter| self.scalar(filter)).transpose()?;
        if argument.iter().chain(&filter).any(|part| !part.windows().is_empty()) {
            let message = "a window function in an aggregate: make it a subquery in FROM";
            return Err(Error::unsupported(message, location));
        }
        let argument = match filter {
            None => argument,
            Some(filter) => Some(Scalar::Case {
                operand: None,
                branches: vec![(filter, argument.unwrap_or_else(|| Scalar::Literal("1".to_owned())))],
                otherwise: None,
            }),
        };
        // DISTINCT changes nothing for the extremes.
        let distinct = distinct && !matches!(function, AggregateFunction::Min | AggregateFunction::Max);
        Ok(Scalar::Aggregate(Box::new(Aggregate { function, distinct, argument })))
    }
}

fn function_name(name: &ObjectName) -> String {
    name.to_string().to_ascii_lowercase()
}

fn volatile(name: &str, location: Option<Location>) -> Error {
    let message = format!(
        "{name} has another value at every reading, so the view could not be kept: store the value in a column"
    );
    Error::unsupported(message, location)
}

fn refuse(expr: &Expr, location: Option<Location>) -> Error {
    let message = match expr {
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
            "a subquery in an expression is not supported yet: make it a view of its own and JOIN it"
        }
        Expr::Collate { .. } => "COLLATE is not supported in a view: compare lower(column)",
        Expr::Tuple(_) => "a row of values: write a = x AND b = y",
        _ => "this expression has no rule in a view: use columns, operators, CASE, CAST and functions",
    };
    Error::unsupported(message, location)
}

fn literal(value: &Value, location: Option<Location>) -> Result<Scalar, Error> {
    match value {
        Value::Number(number, false) => Ok(Scalar::Literal(number.clone())),
        Value::SingleQuotedString(text) => Ok(Scalar::Literal(crate::sql::quote_text(text))),
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
        BinaryOperator::Arrow => {
            let message = "-> gives a document: end the path with ->>, which gives a text";
            return Err(Error::unsupported(message, location));
        }
        other => return Err(Error::unsupported(format!("operator {other} has no rule in a view"), location)),
    })
}

fn cast_type(data_type: &DataType, location: Option<Location>) -> Result<&'static str, Error> {
    Ok(match data_type {
        DataType::Int(_) | DataType::Integer(_) | DataType::BigInt(_) | DataType::SmallInt(_) => "INTEGER",
        DataType::Real | DataType::Double(_) | DataType::DoublePrecision | DataType::Float(_) => "REAL",
        DataType::Text | DataType::Varchar(None) | DataType::String(None) => "TEXT",
        DataType::Blob(None) | DataType::Bytea => "BLOB",
        other => {
            let message = format!("CAST to {other}: write INTEGER, REAL, TEXT or BLOB");
            return Err(Error::unsupported(message, location));
        }
    })
}
