//! Functions that are other expressions: what every replica has already, so that they have one meaning.

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, Value};

use super::texts;
use crate::query::{Aggregate, AggregateFunction, Scalar};
use crate::{Error, Location};

/// Functions and how many arguments they take; of aggregates it is one.
pub(super) const NAMES: &[(&str, usize, usize)] = &[
    ("concat", 1, 100),
    ("concat_ws", 2, 100),
    ("date", 1, 1),
    ("greatest", 2, 4),
    ("iif", 3, 3),
    ("least", 2, 4),
    ("left", 2, 2),
    ("lpad", 2, 3),
    ("mod", 2, 2),
    ("pow", 2, 2),
    ("power", 2, 2),
    ("right", 2, 2),
    ("round", 1, 2),
    ("rpad", 2, 3),
    ("sign", 1, 1),
    ("starts_with", 2, 2),
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
            let joined =
                arguments.into_iter().map(text).reduce(|left, right| Scalar::binary(left, "||", right));
            joined.unwrap_or_else(|| literal("''"))
        }
        ("greatest", _) => outermost(arguments, ">="),
        ("least", _) => outermost(arguments, "<="),
        ("iif", [condition, then, otherwise]) => {
            case(vec![(condition.clone(), then.clone())], Some(otherwise.clone()))
        }
        ("concat_ws" | "left" | "right" | "lpad" | "rpad" | "starts_with", _) => {
            texts::function(name, arguments, location)?
        }
        ("round", [of]) => Scalar::Call("round", vec![of.clone()]),
        ("round", [of, Scalar::Literal(decimals)]) => rounded(of, decimals, location)?,
        ("pow" | "power", [of, Scalar::Literal(exponent)]) => powered(of, exponent, location)?,
        ("pow" | "power", _) => return Err(unclear_power(location)),
        ("mod", [left, right]) => Scalar::binary(left.clone(), "%", right.clone()),
        ("sign", [of]) => {
            let branch = |operator, result: &str| {
                (Scalar::binary(of.clone(), operator, literal("0")), literal(result))
            };
            case(vec![branch(">", "1"), branch("=", "0"), branch("<", "-1")], None)
        }
        ("strpos", _) => Scalar::Call("instr", arguments),
        _ => return Err(Error::types_at(format!("{name} takes other arguments"), location)),
    })
}

/// Most decimals that are rounded to.
const DECIMALS: u32 = 12;
/// From here on every double is an integer.
const WHOLE: &str = "4503599627370496.0";

/// `round(x, decimals)`, half away from zero: by the same steps in every database, which round differently themselves.
fn rounded(of: &Scalar, decimals: &str, location: Option<Location>) -> Result<Scalar, Error> {
    let Some(decimals) = decimals.parse::<u32>().ok().filter(|decimals| *decimals <= DECIMALS) else {
        let message = format!("round to a constant number of decimals, 0 to {DECIMALS}");
        return Err(Error::types_at(message, location));
    };
    let shift = || literal(&format!("{}.0", 10_u64.pow(decimals)));
    let absolute = Scalar::Call("abs", vec![of.clone()]);
    let shifted = Scalar::binary(Scalar::binary(absolute, "*", shift()), "+", literal("0.5"));
    let whole = Scalar::Call("floor", vec![shifted.clone()]);
    let rounded = Scalar::binary(whole, "/", shift());
    let negative = Scalar::binary(literal("0.0"), "-", rounded.clone());
    let sides = case(vec![(Scalar::binary(of.clone(), "<", literal("0")), negative)], Some(rounded));
    let is_small = Scalar::binary(shifted, "<", literal(WHOLE));
    Ok(case(vec![(is_small, sides)], Some(Scalar::Cast(Box::new(of.clone()), "REAL"))))
}

/// Most factors of a power.
const FACTORS: u32 = 16;

/// `power(x, exponent)` as a product, which every database calculates alike.
fn powered(of: &Scalar, exponent: &str, location: Option<Location>) -> Result<Scalar, Error> {
    let exponent = exponent.parse::<u32>().ok().filter(|exponent| (1..=FACTORS).contains(exponent));
    let exponent = exponent.ok_or_else(|| unclear_power(location))?;
    let factor = Scalar::Cast(Box::new(of.clone()), "REAL");
    Ok((1..exponent).fold(factor.clone(), |product, _| Scalar::binary(product, "*", factor.clone())))
}

fn unclear_power(location: Option<Location>) -> Error {
    let message = format!(
        "power takes a constant exponent, 1 to {FACTORS}: the last digits of others differ between databases"
    );
    Error::types_at(message, location)
}

/// `greatest` or `least`: NULLs do not count.
fn outermost(arguments: Vec<Scalar>, operator: &'static str) -> Scalar {
    let is_null = |operand: &Scalar| Scalar::Postfix(Box::new(operand.clone()), "IS NULL");
    let outer = |left: Scalar, right: Scalar| {
        let branches = vec![
            (is_null(&left), right.clone()),
            (is_null(&right), left.clone()),
            (Scalar::binary(left.clone(), operator, right.clone()), left),
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
        Scalar::Aggregate(Box::new(Aggregate::of(function, argument)))
    };
    let all = count(of.clone());
    let true_ones = count(case(vec![(of.clone(), literal("1"))], None));
    let holds = match one_is_enough {
        true => Scalar::binary(true_ones, ">", literal("0")),
        false => Scalar::binary(true_ones, "=", all.clone()),
    };
    Some(case(vec![(Scalar::binary(all, ">", literal("0")), holds)], None))
}

pub(super) fn is_truths(name: &str) -> bool {
    TRUTHS.iter().any(|(known, _)| *known == name)
}

/// A document and the path in it: `document -> 'a' ->> 'b'`, whose last step gives a text.
pub(super) fn document_path(expr: &Expr, location: Option<Location>) -> Result<(&Expr, String), Error> {
    let mut steps = vec![];
    let mut document = expr;
    loop {
        match document {
            Expr::Nested(inner) => document = inner,
            Expr::BinaryOp { left, op: BinaryOperator::Arrow | BinaryOperator::LongArrow, right } => {
                let Expr::Value(at) = &**right else { return Err(unclear(location)) };
                steps.push(step(&at.value).ok_or_else(|| unclear(location))?);
                document = left;
            }
            Expr::BinaryOp { left, op: BinaryOperator::HashArrow | BinaryOperator::HashLongArrow, right } => {
                let Expr::Value(path) = &**right else { return Err(unclear(location)) };
                steps.extend(path_steps(&path.value).ok_or_else(|| unclear(location))?.into_iter().rev());
                document = left;
            }
            _ => break,
        }
    }
    steps.reverse();
    Ok((document, format!("${}", steps.concat())))
}

/// A key or the number of an element.
fn step(at: &Value) -> Option<String> {
    match at {
        // A key that begins so would be a path in SQLite.
        Value::SingleQuotedString(key)
            if !key.is_empty() && !key.starts_with('$') && !key.contains(['"', '\\', ',', '{', '}']) =>
        {
            Some(format!(".\"{key}\""))
        }
        Value::Number(index, _) if index.parse::<u32>().is_ok() => Some(format!("[{index}]")),
        _ => None,
    }
}

/// Keys and numbers in `{a,0,b}`.
fn path_steps(path: &Value) -> Option<Vec<String>> {
    let Value::SingleQuotedString(path) = path else { return None };
    let keys = path.strip_prefix('{')?.strip_suffix('}')?.split(',').map(str::trim);
    let at = |key: &str| match key.parse::<u32>() {
        Ok(index) => step(&Value::Number(index.to_string(), false)),
        Err(_) => step(&Value::SingleQuotedString(key.to_owned())),
    };
    keys.map(at).collect()
}

fn unclear(location: Option<Location>) -> Error {
    let message = "-> and ->> take a key in quotes or the number of an element, one for each step: document -> 'key' ->> 0";
    Error::unsupported(message, location)
}

pub(super) fn literal(sql: &str) -> Scalar {
    Scalar::Literal(sql.to_owned())
}

pub(super) fn case(branches: Vec<(Scalar, Scalar)>, otherwise: Option<Scalar>) -> Scalar {
    Scalar::Case { operand: None, branches, otherwise: otherwise.map(Box::new) }
}
