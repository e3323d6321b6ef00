//! Renders parts of definitions as Genji keeps them in its catalog.

use deltamesh_change::Value;

use super::expression::Expression;
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

/// The text of a literal that both Genji and this crate read back; `None` for anything else.
///
/// Genji takes no array as a DEFAULT and cannot read the escapes of control characters back.
pub(crate) fn literal(expression: &Expression) -> Option<String> {
    let Expression::Literal(value) = expression else { return None };
    Some(match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if !value.is_finite() => return None,
        Value::Float(value) => {
            let text = double_text(*value);
            // A double of whole value keeps a fraction, else it would read back as an integer.
            if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
        }
        Value::Text(text) if text.chars().any(|next| next.is_control() && !"\n\r\t".contains(next)) => {
            return None;
        }
        Value::Text(text) => quote(text),
        Value::Bytes(bytes) => {
            format!("\"\\x{}\"", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Value::Decimal(_) | Value::Array(_) | Value::Document(_) | Value::Unchanged => return None,
    })
}
