//! `strftime` and `to_char` of dates and times, as the pieces of their text.

use super::{moment, temporal};
use crate::query::Scalar;
use crate::{Error, Location};

/// Patterns of `strftime`, then those of `to_char`; longer ones first.
const PATTERNS: &[(&str, &str, Piece)] = &[
    ("%Y", "YYYY", Piece::Place(1, 4)),
    ("%m", "MM", Piece::Place(6, 2)),
    ("%d", "DD", Piece::Place(9, 2)),
    ("%H", "HH24", Piece::Place(12, 2)),
    ("%M", "MI", Piece::Place(15, 2)),
    ("%S", "SS", Piece::Place(18, 2)),
    ("%F", "", Piece::Place(1, 10)),
    ("%j", "", Piece::DayOfYear),
    ("%w", "", Piece::FromSunday),
    ("%u", "ID", Piece::FromMonday),
    ("%s", "", Piece::Epoch),
    ("", "Q", Piece::Quarter),
    ("", "YY", Piece::Place(3, 2)),
];

#[derive(Debug, Clone, Copy)]
enum Piece {
    /// Characters at a place of the text.
    Place(i64, i64),
    DayOfYear,
    FromSunday,
    FromMonday,
    Epoch,
    Quarter,
}

/// `strftime('%Y-%m', moment)`.
pub(super) fn strftime(format: &str, of: &Scalar, location: Option<Location>) -> Result<Scalar, Error> {
    let known = |text: &str| {
        PATTERNS.iter().find(|(pattern, ..)| is_at(text, pattern)).map(|(p, _, at)| (p.len(), *at))
    };
    let is_plain = |character: char| character != '%';
    pieces(format, of, known, is_plain).ok_or_else(|| {
        let message = format!("strftime '{format}': there are %Y %m %d %H %M %S %F %j %w %u %s");
        Error::unsupported(message, location)
    })
}

/// `to_char(moment, 'YYYY-MM')`.
pub(super) fn to_char(format: &str, of: &Scalar, location: Option<Location>) -> Result<Scalar, Error> {
    let known = |text: &str| {
        PATTERNS.iter().find(|(_, pattern, _)| is_at(text, pattern)).map(|(_, p, at)| (p.len(), *at))
    };
    let is_plain = |character: char| !character.is_ascii_alphanumeric() && character != '"';
    pieces(format, of, known, is_plain).ok_or_else(|| {
        let message = format!("to_char '{format}': there are YYYY YY Q MM DD ID HH24 MI SS of dates and times; numbers are formatted where they are shown");
        Error::unsupported(message, location)
    })
}

fn is_at(text: &str, pattern: &str) -> bool {
    !pattern.is_empty() && text.starts_with(pattern)
}

fn pieces(
    mut format: &str,
    of: &Scalar,
    known: impl Fn(&str) -> Option<(usize, Piece)>,
    is_plain: impl Fn(char) -> bool,
) -> Option<Scalar> {
    let mut pieces: Vec<Scalar> = vec![];
    while let Some(first) = format.chars().next() {
        if let Some((length, piece)) = known(format) {
            pieces.push(piece.text(of));
            format = &format[length..];
            continue;
        }
        if !is_plain(first) {
            return None;
        }
        let end = format.find(|character| !is_plain(character)).unwrap_or(format.len());
        pieces.push(Scalar::text(&format[..end]));
        format = &format[end..];
    }
    pieces.into_iter().reduce(|left, right| Scalar::binary(left, "||", right))
}

impl Piece {
    fn text(self, of: &Scalar) -> Scalar {
        let number = |number: Scalar| Scalar::Cast(Box::new(number), "TEXT");
        match self {
            Self::Place(from, length) => {
                let place = vec![of.clone(), Scalar::integer(from), Scalar::integer(length)];
                let text = Scalar::Call("substr", place);
                // A date is at midnight.
                let given = Scalar::Call("nullif", vec![text.clone(), Scalar::text("")]);
                if from > 10 { Scalar::Call("coalesce", vec![given, Scalar::text("00")]) } else { text }
            }
            Self::DayOfYear => {
                let day = number(moment::day_of_year(of));
                let padded = Scalar::binary(Scalar::text("00"), "||", day);
                Scalar::Call("substr", vec![padded, Scalar::integer(-3)])
            }
            Self::FromSunday => number(moment::weekday_from_sunday(of)),
            Self::FromMonday => number(moment::weekday(of)),
            Self::Epoch => number(moment::epoch(of)),
            Self::Quarter => number(temporal::quarter(of)),
        }
    }
}
