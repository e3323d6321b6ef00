//! Calls of functions.

use datafusion_sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Value,
    WindowType,
};

use super::expression::{LARGEST, Resolver, check_size};
use super::{format, joining, nearest, refused, rewritten, temporal, window};
use crate::query::{Aggregate, AggregateFunction, Scalar};
use crate::{Error, Location};

/// Scalar functions: name as written, name in SQLite, fewest and most arguments.
pub(crate) const FUNCTIONS: &[(&str, &str, usize, usize)] = &[
    ("abs", "abs", 1, 1),
    ("ceil", "ceil", 1, 1),
    ("ceiling", "ceil", 1, 1),
    ("char_length", "length", 1, 1),
    ("character_length", "length", 1, 1),
    ("coalesce", "coalesce", 2, 100),
    ("floor", "floor", 1, 1),
    ("ifnull", "coalesce", 2, 2),
    ("instr", "instr", 2, 2),
    ("json_array_length", "json_array_length", 1, 1),
    ("jsonb_array_length", "json_array_length", 1, 1),
    ("length", "length", 1, 1),
    ("lower", "lower", 1, 1),
    ("ltrim", "ltrim", 1, 2),
    ("nullif", "nullif", 2, 2),
    ("replace", "replace", 3, 3),
    ("rtrim", "rtrim", 1, 2),
    ("sqrt", "sqrt", 1, 1),
    ("substr", "substr", 2, 3),
    ("substring", "substr", 2, 3),
    ("trim", "trim", 1, 2),
    ("trunc", "trunc", 1, 1),
    ("upper", "upper", 1, 1),
];

/// Functions whose result is not decided by their arguments.
pub(super) const VOLATILE: &[&str] = &[
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

impl Resolver<'_> {
    pub(super) fn call(&self, function: &Function, location: Option<Location>) -> Result<Scalar, Error> {
        let name = function_name(&function.name);
        if VOLATILE.contains(&name.as_str()) {
            return Err(volatile(&name, location));
        }
        if joining::is_joining(&name) && function.over.is_some() {
            let message = format!("{name} OVER: group in a subquery in FROM and JOIN it");
            return Err(Error::unsupported(message, location));
        }
        if let Some(instead) = refused::instead_of(&name) {
            return Err(Error::unsupported(format!("{name} has no rule in a view: {instead}"), location));
        }
        if joining::is_joining(&name) {
            return self.joined(&name, function, location);
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
        if let Some(by_pattern) = self.by_pattern(&name, &list.args, location)? {
            return Ok(by_pattern);
        }
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let aggregate = AggregateFunction::ALL.iter().find(|(known, _)| *known == name);
        if let Some((_, aggregate)) = aggregate
            && (list.args.len() == 1)
        {
            let filter = function.filter.as_deref();
            return unnested(
                self.aggregate(*aggregate, distinct, &list.args[0], filter, location)?,
                location,
            );
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
            let wanted = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
            let message = format!("{name} takes {wanted} arguments, not {}", arguments.len());
            return Err(Error::types_at(message, location));
        }
        if let ("date", [FunctionArg::Unnamed(FunctionArgExpr::Expr(of))]) = (name, arguments) {
            return temporal::truncate("day", self.time(of)?, location);
        }
        let arguments = arguments.iter().map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.scalar(expr),
            other => Err(Error::types_at(format!("{name} cannot take {other}"), location)),
        });
        let arguments: Vec<Scalar> = arguments.collect::<Result<_, _>>()?;
        if name.ends_with("array_length") && !arguments.iter().all(|of| self.is_document(of)) {
            return Err(Error::types_at(format!("{name} takes a column of arrays"), location));
        }
        match known {
            Some((_, sqlite, ..)) => Ok(Scalar::Call(sqlite, arguments)),
            None => {
                check_size(&arguments.iter().collect::<Vec<_>>(), LARGEST, location)?;
                rewritten::function(name, arguments, location)
            }
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
        Ok(Scalar::Aggregate(Box::new(Aggregate { function, distinct, argument, joining: None })))
    }

    /// `string_agg`.
    fn joined(&self, name: &str, function: &Function, location: Option<Location>) -> Result<Scalar, Error> {
        let call = joining::Call::read(name, function)?;
        let filter = function.filter.as_deref();
        let call_of = self.aggregate(AggregateFunction::Join, false, call.argument, filter, location)?;
        unnested(call.join(call_of, &|expr| self.scalar(expr), self.scope.relations())?, location)
    }

    /// `date_trunc`, `date_part`, `strftime` and `to_char`, whose text says what is asked for.
    fn by_pattern(
        &self,
        name: &str,
        arguments: &[FunctionArg],
        location: Option<Location>,
    ) -> Result<Option<Scalar>, Error> {
        let [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(first)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(second)),
        ] = arguments
        else {
            return Ok(None);
        };
        let (pattern, of) = if name == "to_char" { (second, first) } else { (first, second) };
        let Expr::Value(pattern) = pattern else { return Ok(None) };
        let Value::SingleQuotedString(pattern) = &pattern.value else { return Ok(None) };
        match name {
            "date_trunc" => temporal::truncate(pattern, self.time(of)?, location).map(Some),
            "date_part" => temporal::date_part(pattern, self.time(of)?, location).map(Some),
            "strftime" => format::strftime(pattern, &self.time(of)?, location).map(Some),
            "to_char" => format::to_char(pattern, &self.time(of)?, location).map(Some),
            _ => Ok(None),
        }
    }
}

/// An aggregate, unless it is one of another.
fn unnested(call: Scalar, location: Option<Location>) -> Result<Scalar, Error> {
    if call.children().into_iter().any(|part| !part.aggregates().is_empty()) {
        let message = "an aggregate in an aggregate: make the inner one a view of its own";
        return Err(Error::unsupported(message, location));
    }
    Ok(call)
}

/// Whether a function gives one value for the rows of a group.
pub(crate) fn is_aggregate(name: &ObjectName) -> bool {
    let name = function_name(name);
    AggregateFunction::ALL.iter().any(|(known, _)| *known == name)
        || rewritten::is_truths(&name)
        || joining::is_joining(&name)
}

/// Whether it is `bool_and` or one of its kin.
pub(crate) fn is_truth(name: &ObjectName) -> bool {
    rewritten::is_truths(&function_name(name))
}

fn function_name(name: &ObjectName) -> String {
    name.to_string().to_ascii_lowercase()
}

pub(super) fn volatile(name: &str, location: Option<Location>) -> Error {
    let message = format!(
        "{name} has another value at every reading, so the view could not be kept: store the value in a column"
    );
    Error::unsupported(message, location)
}
