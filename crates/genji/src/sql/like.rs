//! The patterns of LIKE: `%` is any text, `_` one character, `\` takes the next one literally; letters match in any case.

/// One step of a pattern.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Any,
    One,
    Exactly(char),
}

/// Whether the whole text matches the pattern.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let steps = steps(pattern);
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut read) = (0, 0);
    // The last `%` met, and how much of the text it has taken.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&next) = text.get(read) {
        match steps.get(at) {
            Some(Step::Any) => {
                retry = Some((at, read));
                at += 1;
                continue;
            }
            Some(Step::One) => {
                at += 1;
                read += 1;
                continue;
            }
            Some(Step::Exactly(wanted)) if same(*wanted, next) => {
                at += 1;
                read += 1;
                continue;
            }
            _ => {}
        }
        let Some((any, taken)) = retry else { return false };
        retry = Some((any, taken + 1));
        at = any + 1;
        read = taken + 1;
    }
    steps.get(at..).unwrap_or_default().iter().all(|step| *step == Step::Any)
}

fn steps(pattern: &str) -> Vec<Step> {
    let mut steps = Vec::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        match next {
            '%' => steps.push(Step::Any),
            '_' => steps.push(Step::One),
            // A backslash at the end stands for nothing.
            '\\' => steps.extend(rest.next().map(Step::Exactly)),
            other => steps.push(Step::Exactly(other)),
        }
    }
    steps
}

fn same(left: char, right: char) -> bool {
    left == right || left.to_lowercase().eq(right.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }

    #[test]
    fn patterns() {
        check("a%", "Abc", true);
        check("%b%d", "abcbd", true);
        check("%b_d", "abcbd", false);
        check("_", "", false);
        check("%", "", true);
        check("ÄB_", "äbç", true);
        check("100\\%", "100%", true);
        check("100\\%", "1000", false);
        check("abc", "abcd", false);
        check("a%c%", "abbb", false);
    }
}
