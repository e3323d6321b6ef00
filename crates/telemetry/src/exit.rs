//! Refusal of a bad configuration: one sentence on stderr, exit code 64.

use std::io::Write;
use std::process::ExitCode;

/// Exit code of a program whose configuration is refused (`EX_USAGE` of sysexits.h).
pub const EX_USAGE: u8 = 64;

/// Says `sentence` on stderr and returns the exit code for `main` to return.
#[must_use]
pub fn bad_configuration(sentence: &str) -> ExitCode {
    say(&mut std::io::stderr().lock(), sentence);
    ExitCode::from(EX_USAGE)
}

/// Says `sentence` on stderr and ends the process with [`EX_USAGE`], without running destructors.
pub fn exit_bad_configuration(sentence: &str) -> ! {
    say(&mut std::io::stderr().lock(), sentence);
    std::process::exit(i32::from(EX_USAGE))
}

/// One line, whatever the sentence holds. A closed stderr leaves nobody to tell.
fn say(out: &mut impl Write, sentence: &str) {
    let line = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    writeln!(out, "{line}").ok();
}

#[cfg(test)]
mod tests {
    use super::say;

    #[test]
    fn a_refusal_is_one_line() {
        let mut out = Vec::new();
        say(&mut out, "source `a`:\n  path is empty");
        assert_eq!(String::from_utf8(out).unwrap(), "source `a`: path is empty\n");
    }
}
