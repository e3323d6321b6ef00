//! Renders parts of definitions as Genji keeps them in its catalog, and names what a SELECT returns.

use deltamesh_change::Value;

use super::expression::{Aggregate, Expression, Function};
use super::math::MathFunction;
use crate::catalog::{Path, PathSegment};
use crate::write::cast::{double_text, quote};

/// The paths as they appear in generated names: joined by underscores.
pub(crate) fn joined(paths: &[Path]) -> String {
    paths.iter().map(bare).collect::<Vec<_>>().join("_")
}

/// A path without the quotes that keywords get.
fn bare(path: &Path) -> String {
    let mut text = String::new();
    for (index, segment) in path.0.iter().enumerate() {
        match segment {
            PathSegment::Field(name) => {
                text.push_str(if index == 0 { "" } else { "." });
                text.push_str(name);
            }
            PathSegment::Index(element) => text.push_str(&format!("[{element}]")),
        }
    }
    text
}

/// The name under which a SELECT returns the expression.
pub(crate) fn name(expression: &Expression) -> String {
    match expression {
        Expression::Path(path, _) => bare(path),
        other => self::expression(other),
    }
}

/// The name of an aggregate, under which its result is kept.
pub(crate) fn aggregate(aggregate: Aggregate, inner: Option<&Expression>) -> String {
    format!("{}({})", aggregate.name(), inner.map_or_else(|| "*".to_owned(), name))
}

/// The text of an expression, which parses to the same.
pub(crate) fn expression(expression: &Expression) -> String {
    let text = self::expression;
    match expression {
        Expression::Literal(value) => literal(value),
        Expression::Parameter(..) => "?".to_owned(),
        Expression::Named(name, _) => format!("${name}"),
        Expression::Path(path, _) => path.to_string(),
        Expression::Key(_) => "pk()".to_owned(),
        Expression::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Expression::Document(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, field)| format!("{}: {}", key(name), text(field))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Expression::Group(inner) => format!("({})", text(inner)),
        Expression::Not(inner) => format!("NOT {}", text(inner)),
        Expression::Binary(left, operator, right) => {
            format!("{} {} {}", text(left), operator.symbol(), text(right))
        }
        Expression::Between(parts) => {
            let [value, low, high] = parts.as_ref();
            format!("{} BETWEEN {} AND {}", text(value), text(low), text(high))
        }
        Expression::Cast(inner, to, _) => format!("CAST({} AS {})", text(inner), to.name().to_lowercase()),
        Expression::Call(Function::TypeOf, inner) => format!("typeof({})", text(inner)),
        Expression::Call(Function::Length, inner) => format!("LEN({})", text(inner)),
        Expression::Call(Function::Math(function), inner) => match inner.as_ref() {
            Expression::Array(arguments) if *function == MathFunction::Atan2 => {
                let arguments: Vec<String> = arguments.iter().map(text).collect();
                format!("math.{}({})", function.name(), arguments.join(", "))
            }
            inner => format!("math.{}({})", function.name(), text(inner)),
        },
        Expression::Aggregate(function, inner, _) => aggregate(*function, inner.as_deref()),
        Expression::NextValue(name, _) => format!("NEXT VALUE FOR {}", Path::field(name)),
    }
}

fn key(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if plain && begins && !super::scanner::is_keyword(name) { name.to_owned() } else { quote(name) }
}

/// Whether Genji reads the text of the literals in the expression back: it knows no escapes of control characters, and no
/// text for an infinite number.
pub(crate) fn reads_back(expression: &Expression) -> bool {
    !expression.any(&mut |part| match part {
        Expression::Literal(Value::Float(value)) => !value.is_finite(),
        Expression::Literal(Value::Text(text)) => {
            text.chars().any(|next| next.is_control() && !"\n\r\t".contains(next))
        }
        _ => false,
    })
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null | Value::Unchanged => "NULL".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => {
            let text = double_text(*value);
            // A double of whole value keeps a fraction, else it would read back as an integer.
            if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
        }
        Value::Text(text) | Value::Decimal(text) => quote(text),
        Value::Bytes(bytes) => {
            format!("\"\\x{}\"", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Document(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, field)| format!("{}: {}", key(name), literal(field))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}
