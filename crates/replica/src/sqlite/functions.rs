//! Scalar functions that maintenance programs call.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deltamesh_change::{Value, to_json};
use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;

use super::database::cell;
use crate::error::{At, Result};

/// Registers `deltamesh_base64`, `deltamesh_token` and `deltamesh_json`, and of SQLite's math functions, which its library may
/// lack, those that are exact.
pub(crate) fn register(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    let place = || "register functions";
    connection.create_scalar_function("deltamesh_base64", 1, flags, base64).at(place)?;
    connection.create_scalar_function("deltamesh_token", 1, flags, token).at(place)?;
    connection.create_scalar_function("deltamesh_json", 1, flags, json).at(place)?;
    let exact = [
        ("ceil", f64::ceil as fn(f64) -> f64),
        ("floor", f64::floor),
        ("trunc", f64::trunc),
        ("sqrt", f64::sqrt),
    ];
    for (name, of) in exact {
        let call = move |context: &Context<'_>| Ok(calculated(context.get_raw(0), name == "sqrt", of));
        connection.create_scalar_function(name, 1, flags, call).at(place)?;
    }
    Ok(())
}

/// A function of a number; an integer is whole already. There is one zero, and no root of a negative number.
fn calculated(of: ValueRef<'_>, roots: bool, function: fn(f64) -> f64) -> rusqlite::types::Value {
    use rusqlite::types::Value::{Integer, Null, Real};
    match of {
        ValueRef::Integer(value) if !roots => Integer(value),
        #[allow(clippy::cast_precision_loss, reason = "as SQLite converts it")]
        ValueRef::Integer(value) if value >= 0 => Real(function(value as f64)),
        ValueRef::Real(value) if !roots || value >= 0.0 => Real(function(value) + 0.0),
        _ => Null,
    }
}

fn base64(context: &Context<'_>) -> rusqlite::Result<Option<String>> {
    Ok(match context.get_raw(0) {
        ValueRef::Null => None,
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(STANDARD.encode(bytes)),
        number => Some(STANDARD.encode(text_of(number))),
    })
}

/// The subject token of a value's text.
fn token(context: &Context<'_>) -> rusqlite::Result<String> {
    Ok(deltamesh_wire::subject::token(&text_of(context.get_raw(0))))
}

/// The canonical JSON text of a value by its own kind.
fn json(context: &Context<'_>) -> rusqlite::Result<String> {
    Ok(to_json(&cell(context.get_raw(0)).value()).to_string())
}

fn text_of(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => to_json(&Value::Float(value)).to_string().trim_matches('"').to_owned(),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Blob(bytes) => STANDARD.encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn functions_give_canonical_text() {
        let connection = Connection::open_in_memory().unwrap();
        register(&connection).unwrap();
        let call = |function: &str, argument: &str| {
            let sql = format!("SELECT {function}({argument})");
            let answer: Option<String> = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            format!("{function}({argument}) = {}", answer.as_deref().unwrap_or("NULL"))
        };
        let calls = [
            call("deltamesh_base64", "x'00ff'"),
            call("deltamesh_base64", "NULL"),
            call("deltamesh_token", "'room 1.a'"),
            call("deltamesh_token", "''"),
            call("deltamesh_token", "NULL"),
            call("deltamesh_token", "-7"),
            call("deltamesh_token", "x'00ff'"),
            call("deltamesh_json", "1.5"),
            call("deltamesh_json", "9007199254740993"),
            call("deltamesh_json", "'a\"b'"),
            call("deltamesh_json", "x'616263'"),
        ];
        expect![[r#"
            deltamesh_base64(x'00ff') = AP8=
            deltamesh_base64(NULL) = NULL
            deltamesh_token('room 1.a') = room%201%2Ea
            deltamesh_token('') = %
            deltamesh_token(NULL) = %
            deltamesh_token(-7) = -7
            deltamesh_token(x'00ff') = AP8%3D
            deltamesh_json(1.5) = 1.5
            deltamesh_json(9007199254740993) = "9007199254740993"
            deltamesh_json('a"b') = "a\"b"
            deltamesh_json(x'616263') = "YWJj""#]]
        .assert_eq(&calls.join("\n"));
    }
}
