//! Dates and times that depend on a column: what is counted from the day that a text begins with.
//!
//! What does not begin with a day of the calendar (`YYYY-MM-DD`, years 1 to 9999) gives NULL, whatever the database thinks of it.

use datafusion_sql::sqlparser::ast::{BinaryOperator, DataType, Expr, Interval};

use super::temporal::{self, DAY, Length};
use crate::query::Scalar;
use crate::{Error, Location};

/// A moment and a number of intervals that it is moved by.
pub(super) struct Moved<'a> {
    pub(super) moment: &'a Expr,
    /// How often; once if there is none.
    pub(super) times: Option<&'a Expr>,
    interval: &'a Interval,
    sign: i64,
}

impl<'a> Moved<'a> {
    /// `moment ± [times *] interval`.
    pub(super) fn read(expr: &'a Expr) -> Option<Self> {
        let Expr::BinaryOp { left, op: op @ (BinaryOperator::Plus | BinaryOperator::Minus), right } = expr
        else {
            return None;
        };
        let sign = if *op == BinaryOperator::Plus { 1 } else { -1 };
        let (moment, (times, interval)) = match (intervals(right), intervals(left)) {
            (Some(intervals), _) => (left, intervals),
            (None, Some(intervals)) if sign == 1 => (right, intervals),
            _ => return None,
        };
        Some(Self { moment, times, interval, sign })
    }

    /// The moved moment, in the form that it has: a date stays one where it is moved by days or longer.
    pub(super) fn text(
        &self,
        of: Scalar,
        times: Option<Scalar>,
        location: Option<Location>,
    ) -> Result<Scalar, Error> {
        let Length { months, seconds } =
            temporal::length(self.interval).ok_or_else(|| temporal::unclear(self.interval, location))?;
        let amount = |unit: i64| match (&times, self.sign * unit) {
            (None, unit) => Scalar::integer(unit),
            (Some(times), 1) => times.clone(),
            (Some(times), unit) => Scalar::binary(times.clone(), "*", Scalar::integer(unit)),
        };
        let rest = |from| Scalar::Call("substr", vec![of.clone(), Scalar::integer(from)]);
        if months != 0 {
            let moved = Scalar::Call("add_months", vec![of.clone(), amount(months)]);
            return Ok(Scalar::binary(moved, "||", rest(11)));
        }
        if seconds % DAY == 0 {
            let moved = Scalar::binary(days(of.clone()), "+", amount(seconds / DAY));
            return Ok(Scalar::binary(Scalar::Call("date_of", vec![moved]), "||", rest(11)));
        }
        let moved = Scalar::Call("moment_of", vec![Scalar::binary(epoch(&of), "+", amount(seconds))]);
        let between = Scalar::Call("substr", vec![of.clone(), Scalar::integer(11), Scalar::integer(1)]);
        let between = Scalar::Call("nullif", vec![between, Scalar::text("")]);
        let between = Scalar::Call("coalesce", vec![between, Scalar::text(" ")]);
        let moved = Scalar::Call("replace", vec![moved, Scalar::text(" "), between]);
        Ok(Scalar::binary(moved, "||", rest(20)))
    }
}

/// `[times *] interval`.
fn intervals(expr: &Expr) -> Option<(Option<&Expr>, &Interval)> {
    match expr {
        Expr::Nested(inner) => intervals(inner),
        Expr::Interval(interval) => Some((None, interval)),
        Expr::BinaryOp { left, op: BinaryOperator::Multiply, right } => match (&**left, &**right) {
            (times, Expr::Interval(interval)) | (Expr::Interval(interval), times) => {
                Some((Some(times), interval))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The operands of a difference of two dates, which is a number of days.
pub(super) fn between_dates(expr: &Expr) -> Option<(&Expr, &Expr)> {
    let Expr::BinaryOp { left, op: BinaryOperator::Minus, right } = expr else { return None };
    (is_date(left) && is_date(right)).then_some((&**left, &**right))
}

fn is_date(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_date(inner),
        Expr::Function(function) => function.name.to_string().eq_ignore_ascii_case("date"),
        Expr::Cast { data_type: DataType::Date, .. } => true,
        Expr::TypedString(literal) => literal.data_type == DataType::Date,
        _ => false,
    }
}

/// Days since 1970-01-01.
pub(super) fn days(of: Scalar) -> Scalar {
    Scalar::Call("days", vec![of])
}

/// Seconds since 1970-01-01 00:00:00, as the text says them: a zone and fractions behind it are not looked at.
pub(super) fn epoch(of: &Scalar) -> Scalar {
    let field = |place| temporal::part(of, place, 2);
    let day = Scalar::binary(days(of.clone()), "*", Scalar::integer(DAY));
    let hours = Scalar::binary(field(12), "*", Scalar::integer(3600));
    let minutes = Scalar::binary(field(15), "*", Scalar::integer(60));
    Scalar::binary(Scalar::binary(Scalar::binary(day, "+", hours), "+", minutes), "+", field(18))
}

/// The day of the week, Monday is 1.
pub(super) fn weekday(of: &Scalar) -> Scalar {
    Scalar::binary(since_monday(of), "+", Scalar::integer(1))
}

/// The day of the week, Sunday is 0.
pub(super) fn weekday_from_sunday(of: &Scalar) -> Scalar {
    remainder(Scalar::binary(days(of.clone()), "+", Scalar::integer(4)), 7)
}

/// The day of the year, from 1.
pub(super) fn day_of_year(of: &Scalar) -> Scalar {
    let year = Scalar::Call("substr", vec![of.clone(), Scalar::integer(1), Scalar::integer(4)]);
    let last = days(Scalar::binary(year, "||", Scalar::text("-01-01")));
    Scalar::binary(Scalar::binary(days(of.clone()), "-", last), "+", Scalar::integer(1))
}

/// Days since the Monday of the week.
fn since_monday(of: &Scalar) -> Scalar {
    remainder(Scalar::binary(days(of.clone()), "+", Scalar::integer(3)), 7)
}

/// The Monday of the week, in days since 1970-01-01.
fn monday(of: &Scalar) -> Scalar {
    Scalar::binary(days(of.clone()), "-", since_monday(of))
}

/// The Monday of the week.
pub(super) fn week_begin(of: &Scalar) -> Scalar {
    Scalar::Call("date_of", vec![monday(of)])
}

/// The Thursday of the week, whose year is that of the week (ISO 8601).
fn thursday(of: &Scalar) -> Scalar {
    Scalar::Call("date_of", vec![Scalar::binary(monday(of), "+", Scalar::integer(3))])
}

pub(super) fn week(of: &Scalar) -> Scalar {
    let before = Scalar::binary(day_of_year(&thursday(of)), "-", Scalar::integer(1));
    Scalar::binary(Scalar::binary(before, "/", Scalar::integer(7)), "+", Scalar::integer(1))
}

pub(super) fn week_year(of: &Scalar) -> Scalar {
    temporal::part(&thursday(of), 1, 4)
}

/// The first day of the quarter.
pub(super) fn quarter_begin(of: &Scalar) -> Scalar {
    let month = temporal::part(of, 6, 2);
    let branch = |last: i64, begin: &str| {
        (Scalar::binary(month.clone(), "<=", Scalar::integer(last)), Scalar::text(begin))
    };
    let begin = Scalar::Case {
        operand: None,
        branches: vec![branch(3, "-01-01"), branch(6, "-04-01"), branch(9, "-07-01")],
        otherwise: Some(Box::new(Scalar::text("-10-01"))),
    };
    Scalar::binary(
        Scalar::Call("substr", vec![of.clone(), Scalar::integer(1), Scalar::integer(4)]),
        "||",
        begin,
    )
}

/// A remainder that is not negative.
fn remainder(of: Scalar, by: i64) -> Scalar {
    let signed = Scalar::binary(of, "%", Scalar::integer(by));
    Scalar::binary(Scalar::binary(signed, "+", Scalar::integer(by)), "%", Scalar::integer(by))
}
