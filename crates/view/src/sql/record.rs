//! The view's changes as rows of `__deltamesh_changes`, with key, row and former values in canonical JSON.

use super::layout::{Form, Layout, Role, Stored};
use crate::sql::{quote, quote_text};
use crate::{Action, Dialect};

/// What a former row has, whatever its values are.
const THERE: &str = "__deltamesh_there";

impl Layout {
    /// Statements that append the changes: what is gone first, then what is new or different.
    ///
    /// A row whose subject changes is gone from the old subject and new on the new one, so that a subscriber of either
    /// sees a consistent history.
    pub(crate) fn record(&self, subject: &[usize]) -> Vec<Action> {
        let mut same = self.same_key("o", "n");
        for index in subject.iter().filter(|index| !self.key.contains(index)) {
            let pair = ["o", "n"].map(|table| format!("{table}.{}", self.name(*index)));
            same.push_str(&format!(" AND {}", self.dialect.same(&pair[0], &pair[1])));
        }
        let (old, new) = (self.old_images(), self.new_images());
        let goes = self.append(
            ["'delete'", &self.key_json("o"), &self.row_json("o"), "NULL", &self.subject(subject, "o")],
            &format!("{old} AS o WHERE NOT EXISTS (SELECT 1 FROM {new} AS n WHERE {same})"),
        );
        let former = match self.dialect {
            Dialect::Sqlite => old.clone(),
            Dialect::Postgres => format!("(SELECT true AS {THERE}, * FROM {old})"),
        };
        let there = match self.dialect {
            Dialect::Sqlite => "o.rowid".to_owned(),
            Dialect::Postgres => format!("o.{THERE}"),
        };
        let operation = format!("CASE WHEN {there} IS NULL THEN 'insert' ELSE 'update' END");
        let before = format!("CASE WHEN {there} IS NOT NULL THEN {} END", self.before_json());
        let comes = self.append(
            [&operation, &self.key_json("n"), &self.row_json("n"), &before, &self.subject(subject, "n")],
            &format!(
                "{new} AS n LEFT JOIN {former} AS o ON {same} WHERE {there} IS NULL OR {}",
                self.differs()
            ),
        );
        let moves = subject.iter().any(|index| !self.key.contains(index));
        vec![if moves { Action::over(&[old], goes) } else { self.gone(goes) }, Action::over(&[new], comes)]
    }

    /// `INSERT` of operation, key, row, former values and subject.
    fn append(&self, values: [&str; 5], from: &str) -> String {
        let view = quote_text(&self.shown);
        let values = values.join(", ");
        let columns = "view, op, key, row, before, subject, position, dsid, captured_us";
        match self.dialect {
            Dialect::Sqlite => format!(
                "INSERT INTO \"__deltamesh_changes\" ({columns}) SELECT {view}, {values}, :position, :dsid, :captured_us FROM {from}"
            ),
            // Not a sequence: what is rolled back must leave no gap.
            Dialect::Postgres => format!(
                "INSERT INTO __deltamesh_changes (seq, {columns}) SELECT (SELECT coalesce(max(seq), 0) FROM __deltamesh_changes) + row_number() OVER (), {view}, {values}, __deltamesh_position, __deltamesh_dsid, __deltamesh_captured_us FROM {from}"
            ),
        }
    }

    /// Whether the rows `n` and `o` differ in what applications see.
    fn differs(&self) -> String {
        let visible = |table: &str| -> String {
            let values: Vec<String> = self.visible().map(|(index, _)| self.compared(index, table)).collect();
            values.join(", ")
        };
        match self.dialect {
            Dialect::Sqlite => format!("({}) IS NOT ({})", visible("n"), visible("o")),
            Dialect::Postgres => format!("ROW({}) IS DISTINCT FROM ROW({})", visible("n"), visible("o")),
        }
    }

    /// A value in a form in which equal ones are spelled alike: 1 and 1.0 are equal in JSON.
    fn compared(&self, index: usize, table: &str) -> String {
        let value = format!("{table}.{}", self.name(index));
        let is_json = self.dialect.declared_type(self.columns[index].column.column_type) == Some("jsonb");
        if is_json { format!("CAST({value} AS text)") } else { value }
    }

    fn visible(&self) -> impl Iterator<Item = (usize, &Stored)> {
        self.columns.iter().enumerate().filter(|(_, stored)| stored.role == Role::Visible)
    }

    fn key_json(&self, table: &str) -> String {
        let values = self.key.iter().map(|index| self.json(*index, table));
        match self.dialect {
            Dialect::Sqlite => format!("json_array({})", values.collect::<Vec<_>>().join(", ")),
            Dialect::Postgres => {
                let values = values.collect::<Vec<_>>().join(" || ',' || ");
                if values.is_empty() { "'[]'".to_owned() } else { format!("'[' || {values} || ']'") }
            }
        }
    }

    fn row_json(&self, table: &str) -> String {
        let fields = self.visible().map(|(index, stored)| (&stored.column.name, self.json(index, table)));
        match self.dialect {
            Dialect::Sqlite => {
                let fields = fields.map(|(name, value)| format!("{}, {value}", quote_text(name)));
                format!("json_object({})", fields.collect::<Vec<_>>().join(", "))
            }
            Dialect::Postgres => {
                let fields = fields.enumerate().map(|(position, (name, value))| {
                    let opening = if position == 0 { "{" } else { "," };
                    format!("{} || {value}", quote_text(&format!("{opening}{}:", json_text(name))))
                });
                let fields = fields.collect::<Vec<_>>().join(" || ");
                if fields.is_empty() { "'{}'".to_owned() } else { format!("{fields} || '}}'") }
            }
        }
    }

    /// Only the columns that changed; the key never does.
    fn before_json(&self) -> String {
        let fields: Vec<String> = self
            .visible()
            .filter(|(index, _)| !self.key.contains(index))
            .map(|(index, stored)| {
                let [old, new] = ["o", "n"].map(|table| self.compared(index, table));
                let (differ, value) = match (self.dialect, stored.form) {
                    (Dialect::Postgres, _) => ("IS DISTINCT FROM", self.json(index, "o")),
                    (_, Form::Own) => ("IS NOT", format!("deltamesh_json({old})")),
                    _ => ("IS NOT", format!("json_quote({})", self.json(index, "o"))),
                };
                let name = quote_text(&format!(",{}:", json_text(&stored.column.name)));
                format!("CASE WHEN {old} {differ} {new} THEN {name} || {value} ELSE '' END")
            })
            .collect();
        if fields.is_empty() {
            "'{}'".to_owned()
        } else {
            format!("'{{' || substr({}, 2) || '}}'", fields.join(" || "))
        }
    }

    /// SQL of a value: in SQLite one that its JSON functions spell canonically, in PostgreSQL its canonical JSON.
    fn json(&self, index: usize, table: &str) -> String {
        let value = format!("{table}.{}", self.name(index));
        if self.dialect == Dialect::Postgres {
            return format!("__deltamesh_json({value})");
        }
        match self.columns[index].form {
            Form::Int => format!(
                "CASE WHEN {value} BETWEEN -9007199254740992 AND 9007199254740992 THEN {value} ELSE CAST({value} AS TEXT) END"
            ),
            Form::Bool => {
                format!("CASE WHEN {value} THEN json('true') WHEN {value} IS NOT NULL THEN json('false') END")
            }
            Form::Text => value,
            Form::Bytes => format!("deltamesh_base64({value})"),
            Form::Json => format!("CASE WHEN json_valid({value}) THEN json({value}) ELSE {value} END"),
            Form::Own => format!("json(deltamesh_json({value}))"),
        }
    }

    /// `feed.<view>.<tokens>`; the one row of a view without key has the token of an empty value.
    fn subject(&self, subject: &[usize], table: &str) -> String {
        let mut sql = format!("'feed.{}", self.shown);
        if subject.is_empty() {
            sql.push_str(".%'");
            return sql;
        }
        for (position, index) in subject.iter().enumerate() {
            let separator = if position == 0 { ".' || " } else { " || '.' || " };
            sql.push_str(&format!("{separator}{}", self.token(*index, table)));
        }
        sql
    }

    fn token(&self, index: usize, table: &str) -> String {
        let value = format!("{table}.{}", quote(&self.columns[index].column.name));
        if self.dialect == Dialect::Postgres {
            return format!("__deltamesh_token({value})");
        }
        let text = match self.columns[index].form {
            Form::Bool => {
                format!("CASE WHEN {value} THEN 'true' WHEN {value} IS NOT NULL THEN 'false' END")
            }
            Form::Bytes => format!("deltamesh_base64({value})"),
            _ => value,
        };
        format!("deltamesh_token({text})")
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
