//! Functions that are other expressions: what every replica has already, so that they have one meaning.

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, Value};

use super::temporal;
use crate::query::{Aggregate, AggregateFunction, Scalar};
use crate::{Error, Location};

/// Functions and how many arguments they take; of aggregates it is one.
pub(super) const NAMES: &[(&str, usize, usize)] = &[
    ("concat", 1, 100),
    ("date", 1, 1),
    ("greatest", 2, 4),
    ("iif", 3, 3),
    ("least", 2, 4),
    ("left", 2, 2),
    ("mod", 2, 2),
    ("sign", 1, 1),
    ("strpos", 2, 2),
];

/// `bool_and` and its kin, and whether one truth is enough.
const TRUTHS: &[(&str, bool)] = &[("bool_and", false), ("bool_or", true), ("every", false)];

/// The expression that a function of [`NAMES`] stands for.
pub(super) fn function(
    name: &str,
    arguments: Vec<Scalar>,
    location: Option<Location>,
) -> Result<Scalar, Error> {
    Ok(match (name, arguments.as_slice()) {
        ("concat", _) => {
            let text = |argument: Scalar| {
                let text = Scalar::Cast(Box::new(argument), "TEXT");
                Scalar::Call("coalesce", vec![text, literal("''")])
            };
            let joined = arguments.into_iter().map(text).reduce(|left, right| binary(left, "||", right));
            joined.unwrap_or_else(|| literal("''"))
        }
        ("date", [of]) => temporal::truncate("day", of.clone(), location)?,
        ("greatest", _) => outermost(arguments, ">="),
        ("least", _) => outermost(arguments, "<="),
        ("iif", [condition, then, otherwise]) => {
            case(vec![(condition.clone(), then.clone())], Some(otherwise.clone()))
        }
        ("left", [of, Scalar::Literal(length)]) if length.parse::<u32>().is_ok_and(|length| length > 0) => {
            Scalar::Call("substr", vec![of.clone(), literal("1"), literal(length)])
        }
        ("left", _) => {
            return Err(Error::types_at("left takes a text and a number above 0", location));
        }
        ("mod", [left, right]) => binary(left.clone(), "%", right.clone()),
        ("sign", [of]) => {
            let branch =
                |operator, result: &str| (binary(of.clone(), operator, literal("0")), literal(result));
            case(vec![branch(">", "1"), branch("=", "0"), branch("<", "-1")], None)
        }
        ("strpos", _) => Scalar::Call("instr", arguments),
        _ => return Err(Error::types_at(format!("{name} takes other arguments"), location)),
    })
}

/// `greatest` or `least`: NULLs do not count.
fn outermost(arguments: Vec<Scalar>, operator: &'static str) -> Scalar {
    let is_null = |operand: &Scalar| Scalar::Postfix(Box::new(operand.clone()), "IS NULL");
    let outer = |left: Scalar, right: Scalar| {
        let branches = vec![
            (is_null(&left), right.clone()),
            (is_null(&right), left.clone()),
            (binary(left.clone(), operator, right.clone()), left),
        ];
        case(branches, Some(right))
    };
    arguments.into_iter().reduce(outer).unwrap_or_else(|| literal("NULL"))
}

/// `bool_and`, `every` and `bool_or` as counts: of all values that are not NULL, and of the true ones.
pub(super) fn truths(name: &str, of: &Scalar) -> Option<Scalar> {
    let (_, one_is_enough) = TRUTHS.iter().find(|(known, _)| *known == name)?;
    let count = |argument: Scalar| {
        let function = AggregateFunction::Count;
        Scalar::Aggregate(Box::new(Aggregate { function, distinct: false, argument: Some(argument) }))
    };
    let all = count(of.clone());
    let true_ones = count(case(vec![(of.clone(), literal("1"))], None));
    let holds = match one_is_enough {
        true => binary(true_ones, ">", literal("0")),
        false => binary(true_ones, "=", all.clone()),
    };
    Some(case(vec![(binary(all, ">", literal("0")), holds)], None))
}

pub(super) fn is_truths(name: &str) -> bool {
    TRUTHS.iter().any(|(known, _)| *known == name)
}

/// A document and the path in it: `document -> 'a' ->> 'b'`, whose last step gives a text.
pub(super) fn document_path(expr: &Expr, location: Option<Location>) -> Result<(&Expr, String), Error> {
    let mut steps = vec![];
    let mut document = expr;
    while let Expr::BinaryOp { left, op: BinaryOperator::Arrow | BinaryOperator::LongArrow, right } = document
    {
        let Expr::Value(step) = &**right else { return Err(unclear(location)) };
        steps.push(match &step.value {
            Value::SingleQuotedString(key)
                if !key.is_empty() && !key.contains(['"', '\\', ',', '{', '}']) =>
            {
                format!(".\"{key}\"")
            }
            Value::Number(index, _) if index.parse::<u32>().is_ok() => format!("[{index}]"),
            _ => return Err(unclear(location)),
        });
        document = left;
    }
    steps.reverse();
    Ok((document, format!("${}", steps.concat())))
}

fn unclear(location: Option<Location>) -> Error {
    let message = "-> and ->> take a key in quotes, without quotes in it, or the number of an element";
    Error::unsupported(message, location)
}

fn literal(sql: &str) -> Scalar {
    Scalar::Literal(sql.to_owned())
}

fn binary(left: Scalar, operator: &'static str, right: Scalar) -> Scalar {
    Scalar::Binary(Box::new(left), operator, Box::new(right))
}

fn case(branches: Vec<(Scalar, Scalar)>, otherwise: Option<Scalar>) -> Scalar {
    Scalar::Case { operand: None, branches, otherwise: otherwise.map(Box::new) }
}
