//! Timestamps: microseconds since 2000-01-01 in UTC.

const DAY: i64 = 86_400_000_000;
/// Days from 0000-03-01, where the years of the calculation begin, to 2000-01-01.
const EPOCH: i64 = 730_425;
/// Days of 400 years.
const ERA: i64 = 146_097;

/// RFC 3339 with six digits behind the second, so that the order of the texts is that of the times (years 0 to 9999; others
/// have a sign and stand as ISO 8601 has them).
pub(crate) fn text(microseconds: i64) -> String {
    let (year, month, day) = date(microseconds.div_euclid(DAY));
    let time = microseconds.rem_euclid(DAY);
    let (second, fraction) = (time / 1_000_000, time % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+05}") };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// Year, month and day of a day counted from 2000-01-01, in the Gregorian calendar.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH;
    let (era, day) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on: 31, 30, 31, 30, 31 days, twice, and the rest.
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, in_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_calendar() {
        for (microseconds, expected) in [
            (0, "2000-01-01T00:00:00.000000Z"),
            (-1, "1999-12-31T23:59:59.999999Z"),
            (5_097_600_000_000, "2000-02-29T00:00:00.000000Z"),
            (673_603_689_123_000, "2021-05-06T08:08:09.123000Z"),
            (-63_113_904_000_000_000, "0000-01-01T00:00:00.000000Z"),
            (i64::MAX, "+294277-01-09T04:00:54.775807Z"),
            (i64::MIN, "-290278-12-22T19:59:05.224192Z"),
        ] {
            assert_eq!(text(microseconds), expected);
        }
    }
}
