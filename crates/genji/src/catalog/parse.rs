//! Parses the `sql` field of catalog rows: only what Genji itself writes there.
//!
//! `CREATE TABLE p (id INTEGER NOT NULL, o (x DOUBLE, ...), CONSTRAINT p_pk PRIMARY KEY (id), ...)`. Names of fields stand
//! there without quotes whatever they contain, so a field's name ends where its type begins.

use crate::Error;
use crate::catalog::scan::{Scanner, syntax};
use crate::catalog::{
    ConstraintKind, DocumentDefinition, FieldDefinition, FieldType, IndexDefinition, Path, PathSegment,
    SequenceDefinition, TableConstraint, TableDefinition,
};
use crate::value::MAX_DEPTH;

/// What a CREATE statement of the catalog defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// CREATE TABLE.
    Table(TableDefinition),
    /// CREATE INDEX.
    Index(IndexDefinition),
    /// CREATE SEQUENCE.
    Sequence(SequenceDefinition),
}

impl Definition {
    /// Parses a normalised CREATE statement.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Syntax`] when it is not one.
    pub fn parse(sql: &str) -> Result<Self, Error> {
        let mut scanner = Scanner::new(sql);
        let definition = if scanner.take_words("CREATE TABLE") {
            Self::Table(table(&mut scanner)?)
        } else if scanner.take_words("CREATE UNIQUE INDEX") {
            Self::Index(index(&mut scanner, true)?)
        } else if scanner.take_words("CREATE INDEX") {
            Self::Index(index(&mut scanner, false)?)
        } else if scanner.take_words("CREATE SEQUENCE") {
            Self::Sequence(sequence(&mut scanner)?)
        } else {
            return Err(syntax("catalog sql creates nothing known"));
        };
        if scanner.rest().is_empty() { Ok(definition) } else { Err(syntax("unexpected text in catalog sql")) }
    }
}

fn table(scanner: &mut Scanner<'_>) -> Result<TableDefinition, Error> {
    let name = scanner.identifier()?;
    let mut table =
        TableDefinition { name, document: DocumentDefinition::default(), constraints: Vec::new() };
    scanner.expect("(")?;
    while !scanner.take(")") {
        if scanner.take("...") {
            table.document.extra = true;
        } else if scanner.take_words("CONSTRAINT") {
            table.constraints.push(constraint(scanner)?);
        } else {
            table.document.fields.push(field(scanner, 0)?);
        }
        separator(scanner)?;
    }
    Ok(table)
}

/// Takes a comma, unless the list ends here.
fn separator(scanner: &mut Scanner<'_>) -> Result<(), Error> {
    if scanner.rest().starts_with(')') { Ok(()) } else { scanner.expect(",") }
}

fn constraint(scanner: &mut Scanner<'_>) -> Result<TableConstraint, Error> {
    let name = scanner.identifier()?;
    let kind = if scanner.take_words("PRIMARY KEY") {
        ConstraintKind::PrimaryKey(paths(scanner)?)
    } else if scanner.take_words("UNIQUE") {
        ConstraintKind::Unique(paths(scanner)?)
    } else if scanner.take_words("CHECK") {
        scanner.expect("(")?;
        let mut expression = scanner.expression()?;
        while scanner.take(",") {
            expression = format!("{expression}, {}", scanner.expression()?);
        }
        scanner.expect(")")?;
        ConstraintKind::Check(expression)
    } else {
        return Err(syntax("unknown constraint in catalog sql"));
    };
    Ok(TableConstraint { name, kind })
}

fn field(scanner: &mut Scanner<'_>, depth: usize) -> Result<FieldDefinition, Error> {
    if depth > MAX_DEPTH {
        return Err(syntax("document is nested too deep"));
    }
    let name = if scanner.rest().starts_with('`') {
        scanner.identifier()?
    } else {
        let (length, name) =
            field_name(scanner.rest()).ok_or_else(|| syntax("field has no type in catalog sql"))?;
        scanner.advance(length);
        name
    };
    let field_type = field_type(scanner, depth)?;
    let not_null = scanner.take_words("NOT NULL");
    let default = if scanner.take_words("DEFAULT") { Some(scanner.expression()?) } else { None };
    Ok(FieldDefinition { name, field_type, not_null, default })
}

const TYPES: [(&str, FieldType); 7] = [
    ("ANY", FieldType::Any),
    ("INTEGER", FieldType::Integer),
    ("DOUBLE", FieldType::Double),
    ("TEXT", FieldType::Text),
    ("BLOB", FieldType::Blob),
    ("BOOLEAN", FieldType::Boolean),
    ("ARRAY", FieldType::Array),
];

/// The length and the name of a field: what stands before the first blank that a type follows.
fn field_name(text: &str) -> Option<(usize, String)> {
    let starts_type = |rest: &str| {
        rest.starts_with('(')
            || TYPES.iter().any(|(word, _)| {
                rest.strip_prefix(word)
                    .is_some_and(|after| after.is_empty() || after.starts_with([' ', ',', ')']))
            })
    };
    text.match_indices(' ')
        .find(|&(index, _)| index > 0 && starts_type(text[index..].trim_start()))
        .map(|(index, _)| (index, text[..index].to_owned()))
}

fn field_type(scanner: &mut Scanner<'_>, depth: usize) -> Result<FieldType, Error> {
    for (word, field_type) in TYPES {
        if scanner.take_words(word) {
            return Ok(field_type);
        }
    }
    scanner.expect("(")?;
    let mut document = DocumentDefinition::default();
    while !scanner.take(")") {
        if scanner.take("...") {
            document.extra = true;
        } else {
            document.fields.push(field(scanner, depth + 1)?);
        }
        separator(scanner)?;
    }
    Ok(FieldType::Document(document))
}

fn paths(scanner: &mut Scanner<'_>) -> Result<Vec<Path>, Error> {
    scanner.expect("(")?;
    let mut paths = Vec::new();
    while !scanner.take(")") {
        paths.push(path(scanner)?);
        separator(scanner)?;
    }
    Ok(paths)
}

fn path(scanner: &mut Scanner<'_>) -> Result<Path, Error> {
    let mut segments = vec![PathSegment::Field(scanner.identifier()?)];
    loop {
        if scanner.take(".") {
            segments.push(PathSegment::Field(scanner.identifier()?));
        } else if scanner.take("[") {
            let index = usize::try_from(scanner.integer()?).map_err(|_| syntax("array index is negative"))?;
            scanner.expect("]")?;
            segments.push(PathSegment::Index(index));
        } else {
            return Ok(Path(segments));
        }
    }
}

fn index(scanner: &mut Scanner<'_>, unique: bool) -> Result<IndexDefinition, Error> {
    let name = scanner.identifier()?;
    if !scanner.take_words("ON") {
        return Err(syntax("index names no table"));
    }
    let table = scanner.identifier()?;
    Ok(IndexDefinition { name, table, unique, paths: paths(scanner)? })
}

fn sequence(scanner: &mut Scanner<'_>) -> Result<SequenceDefinition, Error> {
    let name = scanner.identifier()?;
    let mut clause = |words| if scanner.take_words(words) { scanner.integer().map(Some) } else { Ok(None) };
    let increment = clause("INCREMENT BY")?;
    let min = clause("MINVALUE")?;
    let max = clause("MAXVALUE")?;
    let start = clause("START WITH")?;
    let cache = clause("CACHE")?;
    let cycle = scanner.take_words("CYCLE");
    Ok(SequenceDefinition { name, increment, min, max, start, cache, cycle })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Genji wrote reads and is written the same again.
    #[test]
    fn statements_of_the_real_catalog() {
        for sql in [
            "CREATE TABLE t (...)",
            "CREATE TABLE t (a TEXT, id DOUBLE)",
            "CREATE TABLE p (id INTEGER NOT NULL, name TEXT, CONSTRAINT p_pk PRIMARY KEY (id), ...)",
            "CREATE TABLE nest (n INTEGER NOT NULL, a ARRAY, d (...), s (x INTEGER, y (z TEXT, w DOUBLE), ...), x ANY, CONSTRAINT nest_pk PRIMARY KEY (n))",
            "CREATE TABLE d (o (p INTEGER NOT NULL, q TEXT NOT NULL), v INTEGER, CONSTRAINT d_pk PRIMARY KEY (o.p, o.q))",
            r#"CREATE TABLE `odd table` (we ird TEXT DEFAULT "a, (b", n INTEGER DEFAULT (1 + 2), CONSTRAINT "odd \"name" CHECK (n > 0 AND we IN [1, 2]), CONSTRAINT u UNIQUE (`we ird`, a[3].b))"#,
            "CREATE TABLE `order` (`key` INTEGER NOT NULL, o (`text` TEXT), CONSTRAINT order_pk PRIMARY KEY (`key`, o.`text`))",
            "CREATE UNIQUE INDEX t_a_idx ON t (a)",
            "CREATE INDEX late ON u (b, o.p)",
            "CREATE SEQUENCE sd INCREMENT BY -1 MINVALUE -3 MAXVALUE 3 START WITH 0 CYCLE",
            "CREATE SEQUENCE __genji_store_seq MAXVALUE 9223372036837998591 START WITH 10 CACHE 0",
        ] {
            let written = match Definition::parse(sql).expect(sql) {
                Definition::Table(table) => table.to_string(),
                Definition::Index(index) => index.to_string(),
                Definition::Sequence(sequence) => sequence.to_string(),
            };
            assert_eq!(written, sql);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for sql in [
            "",
            "DROP TABLE t",
            "CREATE TABLE",
            "CREATE TABLE t (a",
            "CREATE TABLE t (a INTEGER DEFAULT (1)",
            "CREATE INDEX i ON t (a) x",
        ] {
            assert!(Definition::parse(sql).is_err(), "{sql}");
        }
    }
}
