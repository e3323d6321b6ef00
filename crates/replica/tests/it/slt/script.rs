//! The format of sqllogictest: records of a statement, or a query with its result, one empty line between them.

/// One record.
#[derive(Debug)]
pub(crate) enum Record {
    /// A statement, and whether it succeeds.
    Statement {
        sql: String,
        succeeds: bool,
    },
    Query(Query),
}

/// A query and what it gives.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) line: usize,
    pub(crate) sql: String,
    /// One letter for each column: `I`, `R` or `T`.
    pub(crate) types: String,
    /// Whether the values are sorted, not the rows.
    pub(crate) by_value: bool,
    /// The lines below `----`; none where the file has only their hash.
    pub(crate) expected: Option<Vec<String>>,
}

/// Reads the records that are meant for SQLite.
pub(crate) fn parse(text: &str) -> Vec<Record> {
    let mut records = vec![];
    let mut lines = text.lines().enumerate().peekable();
    let mut skip = false;
    while let Some((number, line)) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let header = match words.as_slice() {
            ["skipif", engine, ..] => {
                skip |= *engine == "sqlite";
                continue;
            }
            ["onlyif", engine, ..] => {
                skip |= *engine != "sqlite";
                continue;
            }
            ["halt", ..] if !skip => break,
            ["statement" | "query", ..] => words,
            _ => continue,
        };
        let mut body = vec![];
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            body.push(line);
        }
        if std::mem::take(&mut skip) {
            continue;
        }
        records.push(record(number + 1, &header, &body));
    }
    records
}

fn record(line: usize, header: &[&str], body: &[&str]) -> Record {
    let split = body.iter().position(|line| line.trim() == "----").unwrap_or(body.len());
    let sql = body[..split].join("\n").trim().trim_end_matches(';').to_owned();
    if header[0] == "statement" {
        return Record::Statement { sql, succeeds: header.get(1) != Some(&"error") };
    }
    let expected: Vec<String> = body.iter().skip(split + 1).map(|line| line.trim().to_owned()).collect();
    let is_hash = expected.first().is_some_and(|line| line.contains(" values hashing to "));
    Record::Query(Query {
        line,
        sql,
        types: header.get(1).copied().unwrap_or_default().to_owned(),
        by_value: header.contains(&"valuesort"),
        expected: (!is_hash).then_some(expected),
    })
}
