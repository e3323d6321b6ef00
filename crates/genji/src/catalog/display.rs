//! Definitions as Genji writes them into the catalog.

use std::fmt::{self, Display, Formatter};

use crate::catalog::{
    ConstraintKind, DocumentDefinition, FieldDefinition, FieldType, IndexDefinition, Path, PathSegment,
    SequenceDefinition, TableDefinition,
};
use crate::sql::scanner::is_keyword;

/// An identifier, in backquotes when it is not plain or a keyword. Genji leaves keywords bare and then cannot read its own
/// catalog; it reads them in backquotes.
struct Identifier<'a>(&'a str);

impl Display for Identifier<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        quoted(f, self.0, '`')
    }
}

fn quoted(f: &mut Formatter<'_>, name: &str, quote: char) -> fmt::Result {
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain && !name.starts_with(|first: char| first.is_ascii_digit()) && !is_keyword(name) {
        return f.write_str(name);
    }
    let escaped = name.replace('\\', "\\\\").replace(quote, &format!("\\{quote}"));
    write!(f, "{quote}{escaped}{quote}")
}

fn list<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                PathSegment::Field(name) if index == 0 => write!(f, "{}", Identifier(name))?,
                PathSegment::Field(name) => write!(f, ".{}", Identifier(name))?,
                PathSegment::Index(element) => write!(f, "[{element}]")?,
            }
        }
        Ok(())
    }
}

impl Display for FieldType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(document) => write!(f, "({document})"),
            other => f.write_str(other.name()),
        }
    }
}

impl Display for FieldDefinition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // Of names that are not plain Genji reads none back, quoted or not; they stay as Genji writes them.
        if is_keyword(&self.name) {
            write!(f, "{} {}", Identifier(&self.name), self.field_type)?;
        } else {
            write!(f, "{} {}", self.name, self.field_type)?;
        }
        if self.not_null {
            f.write_str(" NOT NULL")?;
        }
        self.default.as_ref().map_or(Ok(()), |default| write!(f, " DEFAULT {default}"))
    }
}

impl Display for DocumentDefinition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list(f, &self.fields)?;
        match (self.extra, self.fields.is_empty()) {
            (true, true) => f.write_str("..."),
            (true, false) => f.write_str(", ..."),
            (false, _) => Ok(()),
        }
    }
}

impl Display for TableDefinition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE TABLE {} (", Identifier(&self.name))?;
        list(f, &self.document.fields)?;
        let mut separator = if self.document.fields.is_empty() { "" } else { ", " };
        for constraint in &self.constraints {
            write!(f, "{separator}CONSTRAINT ")?;
            quoted(f, &constraint.name, '"')?;
            match &constraint.kind {
                ConstraintKind::PrimaryKey(paths) => {
                    f.write_str(" PRIMARY KEY (")?;
                    list(f, paths)?;
                }
                ConstraintKind::Unique(paths) => {
                    f.write_str(" UNIQUE (")?;
                    list(f, paths)?;
                }
                ConstraintKind::Check(expression) => write!(f, " CHECK ({expression}")?,
            }
            f.write_str(")")?;
            separator = ", ";
        }
        if self.document.extra {
            write!(f, "{separator}...")?;
        }
        f.write_str(")")
    }
}

impl Display for IndexDefinition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unique = if self.unique { "UNIQUE " } else { "" };
        write!(f, "CREATE {unique}INDEX {} ON {} (", Identifier(&self.name), Identifier(&self.table))?;
        list(f, &self.paths)?;
        f.write_str(")")
    }
}

impl Display for SequenceDefinition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE SEQUENCE {}", Identifier(&self.name))?;
        let clauses = [
            ("INCREMENT BY", self.increment),
            ("MINVALUE", self.min),
            ("MAXVALUE", self.max),
            ("START WITH", self.start),
            ("CACHE", self.cache),
        ];
        for (clause, value) in clauses {
            if let Some(value) = value {
                write!(f, " {clause} {value}")?;
            }
        }
        if self.cycle { f.write_str(" CYCLE") } else { Ok(()) }
    }
}
