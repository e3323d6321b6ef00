//! Dates and times. They are text in ISO form (`YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS`), which sorts by time; so a literal is its
//! text, arithmetic with intervals is done while planning, and fields are cut out with functions that every replica has.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, DataType, DateTimeField, Expr, Interval, TypedString, Value,
};

use super::moment;
use crate::query::Scalar;
use crate::{Error, Location};

/// A date, or a date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    year: i64,
    month: i64,
    day: i64,
    /// Seconds of the day; none for a date.
    seconds: Option<i64>,
}

/// A length of time: months differ in days.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) months: i64,
    pub(super) seconds: i64,
}

pub(super) const DAY: i64 = 86_400;

/// The text of a literal such as `date '1998-12-01' - interval '90' day`; nothing for other expressions.
pub(super) fn constant(expr: &Expr, location: Option<Location>) -> Option<Result<Scalar, Error>> {
    let text = moment(expr, location)?.map(|moment| moment.text());
    Some(text.map(|text| Scalar::text(&text)))
}

fn moment(expr: &Expr, location: Option<Location>) -> Option<Result<Moment, Error>> {
    match expr {
        Expr::Nested(inner) => moment(inner, location),
        Expr::TypedString(literal) => Some(read(literal, location)),
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Plus | BinaryOperator::Minus), right } => {
            let Expr::Interval(interval) = &**right else { return None };
            let sign = if *op == BinaryOperator::Plus { 1 } else { -1 };
            let moved = moment(left, location)?.and_then(|start| {
                let moved = length(interval).and_then(|length| start.plus(length, sign));
                moved.ok_or_else(|| unclear(interval, location))
            });
            Some(moved)
        }
        Expr::Interval(_) => {
            let message = "an interval alone has no text: add it to a date or a column";
            Some(Err(Error::unsupported(message, location)))
        }
        _ => None,
    }
}

pub(super) fn unclear(interval: &Interval, location: Option<Location>) -> Error {
    let message = format!(
        "{interval}: write interval 'number' and year, month, week, day, hour, minute or second; a date takes whole days"
    );
    Error::types_at(message, location)
}

fn read(literal: &TypedString, location: Option<Location>) -> Result<Moment, Error> {
    let Value::SingleQuotedString(text) = &literal.value.value else {
        return Err(Error::types_at(format!("{literal}: write the value in single quotes"), location));
    };
    let read = match literal.data_type {
        DataType::Date => Moment::date(text),
        DataType::Timestamp(..) | DataType::Datetime(_) => Moment::timestamp(text),
        _ => {
            let message = format!("{literal}: there are literals of date and timestamp");
            return Err(Error::unsupported(message, location));
        }
    };
    read.ok_or_else(|| {
        Error::types_at(
            format!("{literal} is none: write date 'YYYY-MM-DD' or timestamp 'YYYY-MM-DD HH:MM:SS'"),
            location,
        )
    })
}

pub(super) fn length(interval: &Interval) -> Option<Length> {
    let (Expr::Value(value), None) = (&*interval.value, &interval.last_field) else { return None };
    let text = match &value.value {
        Value::SingleQuotedString(text) => text.clone(),
        Value::Number(number, _) => number.clone(),
        _ => return None,
    };
    let (number, unit) = match &interval.leading_field {
        Some(field) => (text, field.to_string()),
        None => {
            let (number, unit) = text.trim().split_once(' ')?;
            (number.to_owned(), unit.to_owned())
        }
    };
    let number: i64 = number.trim().parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let (months, seconds) = match unit.strip_suffix('s').unwrap_or(&unit) {
        "year" => (12, 0),
        "month" => (1, 0),
        "week" => (0, 7 * DAY),
        "day" => (0, DAY),
        "hour" => (0, 3600),
        "minute" => (0, 60),
        "second" => (0, 1),
        _ => return None,
    };
    Some(Length { months: number.checked_mul(months)?, seconds: number.checked_mul(seconds)? })
}

impl Moment {
    fn date(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
        let digits = |range: std::ops::Range<usize>| number(text.get(range)?);
        if !shaped {
            return None;
        }
        let moment = Self { year: digits(0..4)?, month: digits(5..7)?, day: digits(8..10)?, seconds: None };
        (moment == Self::of_days(moment.days())).then_some(moment)
    }

    fn timestamp(text: &str) -> Option<Self> {
        let date = Self::date(text.get(..10)?)?;
        let Some(time) = text.get(10..).filter(|time| !time.is_empty()) else {
            return Some(Self { seconds: Some(0), ..date });
        };
        let bytes = time.as_bytes();
        let shaped = bytes.len() == 9 && bytes[0] == b' ' && bytes[3] == b':' && bytes[6] == b':';
        let digits = |range: std::ops::Range<usize>| number(time.get(range)?);
        let (hour, minute, second) = (digits(1..3)?, digits(4..6)?, digits(7..9)?);
        let seconds = hour * 3600 + minute * 60 + second;
        (shaped && hour < 24 && minute < 60 && second < 60).then_some(Self { seconds: Some(seconds), ..date })
    }

    /// Days since 1970-01-01 (Hinnant, `days_from_civil`).
    fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    fn of_days(days: i64) -> Self {
        let (era, of_era) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self { year: year + era * 400 + i64::from(month <= 2), month, day, seconds: None }
    }

    /// The moment that much later; a day that its month does not have becomes the last one. Years have four digits.
    fn plus(self, length: Length, sign: i64) -> Option<Self> {
        let months = (self.year * 12 + self.month - 1).checked_add(length.months.checked_mul(sign)?)?;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        if !(0..=9999).contains(&year) {
            return None;
        }
        let first = Self { year, month, day: 1, seconds: None };
        let next = Self { year: year + month / 12, month: month % 12 + 1, ..first };
        let day = self.day.min(next.days() - first.days());
        let seconds = length.seconds.checked_mul(sign)?.checked_add(self.seconds.unwrap_or(0))?;
        if self.seconds.is_none() && seconds % DAY != 0 {
            return None;
        }
        let moved = Self::of_days(Self { day, ..first }.days() + seconds.div_euclid(DAY));
        let seconds = self.seconds.map(|_| seconds.rem_euclid(DAY));
        (0..=9999).contains(&moved.year).then_some(Self { seconds, ..moved })
    }

    fn text(self) -> String {
        let date = format!("{:04}-{:02}-{:02}", self.year, self.month, self.day);
        match self.seconds {
            None => date,
            Some(seconds) => {
                format!("{date} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
            }
        }
    }
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `extract(field FROM text)`, as an integer.
pub(super) fn extract(
    field: &DateTimeField,
    of: Scalar,
    location: Option<Location>,
) -> Result<Scalar, Error> {
    let part = |from, length| part(&of, from, length);
    Ok(match field {
        DateTimeField::Year | DateTimeField::Years => part(1, 4),
        DateTimeField::Month | DateTimeField::Months => part(6, 2),
        DateTimeField::Day | DateTimeField::Days => part(9, 2),
        DateTimeField::Hour | DateTimeField::Hours => part(12, 2),
        DateTimeField::Minute | DateTimeField::Minutes => part(15, 2),
        DateTimeField::Second | DateTimeField::Seconds => part(18, 2),
        DateTimeField::Quarter => quarter(&of),
        DateTimeField::Week(None) | DateTimeField::Weeks | DateTimeField::IsoWeek => moment::week(&of),
        DateTimeField::Isoyear => moment::week_year(&of),
        DateTimeField::DayOfWeek | DateTimeField::Dow => moment::weekday_from_sunday(&of),
        DateTimeField::Isodow => moment::weekday(&of),
        DateTimeField::DayOfYear | DateTimeField::Doy => moment::day_of_year(&of),
        DateTimeField::Epoch => moment::epoch(&of),
        other => {
            let message = format!(
                "extract({other} FROM …): there are year, isoyear, quarter, month, week, day, doy, dow, isodow, hour, minute, second, epoch"
            );
            return Err(Error::unsupported(message, location));
        }
    })
}

/// `date_part('field', text)`.
pub(super) fn date_part(field: &str, of: Scalar, location: Option<Location>) -> Result<Scalar, Error> {
    let field = match field.to_ascii_lowercase().as_str() {
        "year" => DateTimeField::Year,
        "isoyear" => DateTimeField::Isoyear,
        "quarter" => DateTimeField::Quarter,
        "month" => DateTimeField::Month,
        "week" => DateTimeField::IsoWeek,
        "day" => DateTimeField::Day,
        "doy" => DateTimeField::Doy,
        "dow" => DateTimeField::Dow,
        "isodow" => DateTimeField::Isodow,
        "hour" => DateTimeField::Hour,
        "minute" => DateTimeField::Minute,
        "second" => DateTimeField::Second,
        "epoch" => DateTimeField::Epoch,
        other => DateTimeField::Custom(other.into()),
    };
    extract(&field, of, location)
}

/// The integer at a place of a text.
pub(super) fn part(of: &Scalar, from: i64, length: i64) -> Scalar {
    let digits = Scalar::Call("substr", vec![of.clone(), Scalar::integer(from), Scalar::integer(length)]);
    Scalar::Cast(Box::new(digits), "INTEGER")
}

pub(super) fn quarter(of: &Scalar) -> Scalar {
    calculate(calculate(part(of, 6, 2), "+", 2), "/", 3)
}

/// `date_trunc('unit', text)`: a date for a day and longer, else a timestamp.
pub(super) fn truncate(unit: &str, of: Scalar, location: Option<Location>) -> Result<Scalar, Error> {
    let (length, rest) = match unit.to_ascii_lowercase().as_str() {
        "year" => (4, "-01-01"),
        "quarter" => return Ok(moment::quarter_begin(&of)),
        "week" => return Ok(moment::week_begin(&of)),
        "month" => (7, "-01"),
        "day" => (10, ""),
        "hour" => (13, ":00:00"),
        "minute" => (16, ":00"),
        "second" => (19, ""),
        other => {
            let message = format!(
                "date_trunc('{other}', …): there are year, quarter, month, week, day, hour, minute, second"
            );
            return Err(Error::unsupported(message, location));
        }
    };
    // A date alone is its midnight.
    let of = if rest.starts_with(':') { joined(of, " 00:00") } else { of };
    let kept = Scalar::Call("substr", vec![of, Scalar::integer(1), Scalar::integer(length)]);
    if rest.is_empty() {
        return Ok(kept);
    }
    Ok(joined(kept, rest))
}

fn joined(text: Scalar, rest: &str) -> Scalar {
    Scalar::binary(text, "||", Scalar::text(rest))
}

fn calculate(left: Scalar, operator: &'static str, right: i64) -> Scalar {
    Scalar::binary(left, operator, Scalar::integer(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: &str, months: i64, seconds: i64, expected: Option<&str>) {
        let start = Moment::timestamp(start).filter(|_| start.len() > 10).or_else(|| Moment::date(start));
        let moved = start.and_then(|start| start.plus(Length { months, seconds }, 1));
        assert_eq!(moved.map(Moment::text).as_deref(), expected);
    }

    #[test]
    fn intervals() {
        check("1998-12-01", 0, -90 * DAY, Some("1998-09-02"));
        check("2024-01-31", 1, 0, Some("2024-02-29"));
        check("2023-11-30", 3, 0, Some("2024-02-29"));
        check("1900-03-01", 0, -DAY, Some("1900-02-28"));
        check("2000-02-28", 0, DAY, Some("2000-02-29"));
        check("1999-12-31", 0, DAY, Some("2000-01-01"));
        check("1999-12-31", 0, 3600, None);
        check("1999-12-31 23:59:59", 0, 1, Some("2000-01-01 00:00:00"));
        check("2000-01-01 00:00:00", 0, -1, Some("1999-12-31 23:59:59"));
        check("9999-12-31", 0, DAY, None);
        check("2023-02-29", 0, 0, None);
        check("2023-2-1", 0, 0, None);
    }
}
