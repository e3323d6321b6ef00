//! Functions of texts that are other expressions.

use super::rewritten::{case, literal};
use crate::query::Scalar;
use crate::sql::quote_text;
use crate::{Error, Location};

/// Longest text that is filled up.
const LONGEST: usize = 1000;

pub(super) fn function(
    name: &str,
    arguments: Vec<Scalar>,
    location: Option<Location>,
) -> Result<Scalar, Error> {
    let is_number = |number: &Scalar| count(number).is_some();
    match (name, arguments.as_slice()) {
        ("concat_ws", [separator, texts @ ..]) if text(separator).is_some() => Ok(joined(separator, texts)),
        ("left", [of, length]) if is_number(length) => {
            Ok(Scalar::Call("substr", vec![of.clone(), literal("1"), length.clone()]))
        }
        ("right", [of, Scalar::Literal(length)]) if is_number(&arguments[1]) => {
            Ok(Scalar::Call("substr", vec![of.clone(), literal(&format!("-{length}"))]))
        }
        ("lpad" | "rpad", [of, length, fill @ ..]) => {
            let fill = fill.first().map_or_else(|| Some(" ".to_owned()), text);
            let filled = count(length).zip(fill.filter(|fill| !fill.is_empty()));
            filled.map(|(length, fill)| padded(name == "lpad", of, length, &fill)).ok_or_else(|| {
                let message =
                    format!("{name} takes a constant length up to {LONGEST}, and a text to fill with");
                Error::types_at(message, location)
            })
        }
        ("starts_with", [of, beginning]) => {
            let length = Scalar::Call("length", vec![beginning.clone()]);
            let begins = Scalar::Call("substr", vec![of.clone(), literal("1"), length]);
            Ok(Scalar::binary(begins, "=", beginning.clone()))
        }
        ("concat_ws", _) => Err(Error::types_at("concat_ws takes a separator in single quotes", location)),
        _ => Err(Error::types_at(format!("{name} takes a text and a number above 0"), location)),
    }
}

/// The texts that are not NULL, with a separator between them.
fn joined(separator: &Scalar, texts: &[Scalar]) -> Scalar {
    let one = |of: &Scalar| {
        let of = Scalar::Cast(Box::new(of.clone()), "TEXT");
        Scalar::Call("coalesce", vec![Scalar::binary(separator.clone(), "||", of), literal("''")])
    };
    let all = texts.iter().map(one).reduce(|left, right| Scalar::binary(left, "||", right));
    let begin = text(separator).map_or(0, |separator| separator.chars().count()) + 1;
    let all = all.unwrap_or_else(|| literal("''"));
    Scalar::Call("substr", vec![all, literal(&begin.to_string())])
}

/// A text filled up at its beginning or end, or cut at its end.
fn padded(begins: bool, of: &Scalar, length: usize, fill: &str) -> Scalar {
    let fill: String = fill.chars().cycle().take(length).collect();
    let wide = literal(&length.to_string());
    let own = Scalar::Call("length", vec![of.clone()]);
    let cut = Scalar::Call("substr", vec![of.clone(), literal("1"), wide.clone()]);
    let missing = Scalar::binary(wide.clone(), "-", own.clone());
    let filling = Scalar::Call("substr", vec![literal(&quote_text(&fill)), literal("1"), missing]);
    let filled = match begins {
        true => Scalar::binary(filling, "||", of.clone()),
        false => Scalar::binary(of.clone(), "||", filling),
    };
    case(vec![(Scalar::binary(own, ">=", wide), cut)], Some(filled))
}

/// A number of characters.
fn count(of: &Scalar) -> Option<usize> {
    match of {
        Scalar::Literal(number) => number.parse().ok().filter(|number| (1..=LONGEST).contains(number)),
        _ => None,
    }
}

/// The text of a literal.
fn text(of: &Scalar) -> Option<String> {
    match of {
        Scalar::Literal(sql) => Some(sql.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'")),
        _ => None,
    }
}
