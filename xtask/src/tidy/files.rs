//! Names and sizes of source files and functions.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const SOURCES: [&str; 5] = ["benches", "crates", "services", "cli", "xtask"];
/// Names that say nothing of what is inside.
const VAGUE: [&str; 8] = ["common", "core", "helper", "helpers", "misc", "types", "util", "utils"];
const FILE_LINES: usize = 1_000;
const FUNCTION_LINES: usize = 70;

/// All violations, as sentences.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for path in sources(root)? {
        let place = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if path.iter().any(|part| VAGUE.iter().any(|vague| is_called(part, vague))) {
            violations.push(format!("{place}: a name that says nothing"));
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {place}"))?;
        let lines = text.lines().count();
        if lines > FILE_LINES {
            violations.push(format!("{place}: {lines} lines, more than {FILE_LINES}"));
        }
        if is_library(&path) && !text.starts_with("//!") {
            violations.push(format!("{place}: starts without a module doc"));
        }
        for (line, length) in long_functions(&text) {
            violations
                .push(format!("{place}:{line}: function of {length} lines, more than {FUNCTION_LINES}"));
        }
    }
    Ok(violations)
}

fn is_called(part: &std::ffi::OsStr, name: &str) -> bool {
    Path::new(part).file_stem().is_some_and(|stem| stem == name)
}

/// Whether others build on the file; a test says what it is about by its name.
fn is_library(path: &Path) -> bool {
    !path.iter().any(|part| part == "tests" || part == "benches" || part == "tests.rs")
}

/// Folders and `.rs` files of the workspace, without generated code.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs: Vec<PathBuf> = SOURCES.iter().map(|dir| root.join(dir)).collect();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                if !path.ends_with("generated") && !path.ends_with("target") {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Line and length of functions that are too long, in text that rustfmt has formatted: a function
/// ends at the first closing brace in the column of its first line.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        if !is_function(code) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        let length = lines[start..].iter().position(|line| *line == end).map_or(1, |last| last + 1);
        if length > FUNCTION_LINES {
            long.push((start + 1, length));
        }
    }
    long
}

/// Whether a body follows and does not end on this line.
fn is_function(code: &str) -> bool {
    let mut words = code.split_whitespace().skip_while(|word| {
        word.starts_with("pub")
            || ["async", "const", "unsafe", "extern", "in", "crate)", "super)"].contains(word)
    });
    words.next() == Some("fn") && !code.ends_with(';') && !code.ends_with('}')
}

#[cfg(test)]
mod tests {
    use super::{is_function, long_functions};

    #[test]
    fn functions_are_seen() {
        for code in
            ["fn a() {", "pub(crate) async fn a(", "pub const fn a() -> u8 {", "pub(in crate) fn a() {"]
        {
            assert!(is_function(code), "{code}");
        }
        for code in ["fn a();", "fn a() {}", "let a: fn() = b;", "// fn a() {", "type A = fn("] {
            assert!(!is_function(code), "{code}");
        }
    }

    #[test]
    fn a_long_function_is_found_with_its_line() {
        let inner = "        b();\n".repeat(70);
        let text =
            format!("//! A.\nimpl A {{\n    fn short() {{\n    }}\n    fn long() {{\n{inner}    }}\n}}\n");
        assert_eq!(long_functions(&text), [(5, 72)]);
    }
}
