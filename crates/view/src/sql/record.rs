//! The view's changes as rows of `__deltamesh_changes`, with key, row and former values in canonical JSON.

use super::layout::{Form, Layout, Role, Stored};
use crate::sql::{quote, quote_text};
use crate::{Action, Dialect};

impl Layout {
    /// Statements that append the changes: what is gone first, then what is new or different.
    ///
    /// A row whose subject changes is gone from the old subject and new on the new one, so that a subscriber of either
    /// sees a consistent history.
    pub(crate) fn record(&self, subject: &[usize]) -> Vec<Action> {
        if self.dialect == Dialect::Postgres {
            return vec![];
        }
        let mut same = self.same_key("o", "n");
        for index in subject.iter().filter(|index| !self.key.contains(index)) {
            same.push_str(&format!(" AND o.{name} IS n.{name}", name = self.name(*index)));
        }
        let visible = |prefix: &str| -> String {
            let names: Vec<String> =
                self.visible().map(|(index, _)| format!("{prefix}{}", self.name(index))).collect();
            names.join(", ")
        };
        let insert = "INSERT INTO \"__deltamesh_changes\" (view, op, key, row, before, subject, position, dsid, captured_us)";
        let view = quote_text(&self.shown);
        let bound = ":position, :dsid, :captured_us";
        let (old, new) = (self.old_images(), self.new_images());
        let goes = format!(
            "{insert} SELECT {view}, 'delete', {key}, {row}, NULL, {subject}, {bound} FROM {old} AS o WHERE NOT EXISTS (SELECT 1 FROM {new} AS n WHERE {same})",
            key = self.key_json("o"),
            row = self.row_json("o"),
            subject = self.subject(subject, "o"),
        );
        let comes = format!(
            "{insert} SELECT {view}, CASE WHEN o.rowid IS NULL THEN 'insert' ELSE 'update' END, {key}, {row}, CASE WHEN o.rowid IS NOT NULL THEN {before} END, {subject}, {bound} FROM {new} AS n LEFT JOIN {old} AS o ON {same} WHERE o.rowid IS NULL OR ({of_new}) IS NOT ({of_old})",
            key = self.key_json("n"),
            row = self.row_json("n"),
            before = self.before_json(),
            subject = self.subject(subject, "n"),
            of_new = visible("n."),
            of_old = visible("o."),
        );
        let moves = subject.iter().any(|index| !self.key.contains(index));
        vec![if moves { Action::over(&[old], goes) } else { self.gone(goes) }, Action::over(&[new], comes)]
    }

    fn visible(&self) -> impl Iterator<Item = (usize, &Stored)> {
        self.columns.iter().enumerate().filter(|(_, stored)| stored.role == Role::Visible)
    }

    fn key_json(&self, table: &str) -> String {
        let values: Vec<String> = self.key.iter().map(|index| self.json(*index, table)).collect();
        format!("json_array({})", values.join(", "))
    }

    fn row_json(&self, table: &str) -> String {
        let fields: Vec<String> = self
            .visible()
            .map(|(index, stored)| {
                format!("{}, {}", quote_text(&stored.column.name), self.json(index, table))
            })
            .collect();
        format!("json_object({})", fields.join(", "))
    }

    /// Only the columns that changed; the key never does.
    fn before_json(&self) -> String {
        let fields: Vec<String> = self
            .visible()
            .filter(|(index, _)| !self.key.contains(index))
            .map(|(index, stored)| {
                let name = serde_json::Value::from(stored.column.name.as_str()).to_string();
                let value = match stored.form {
                    Form::Own => format!("deltamesh_json(o.{})", self.name(index)),
                    _ => format!("json_quote({})", self.json(index, "o")),
                };
                format!(
                    "CASE WHEN o.{column} IS NOT n.{column} THEN {name} || {value} ELSE '' END",
                    column = self.name(index),
                    name = quote_text(&format!(",{name}:")),
                )
            })
            .collect();
        if fields.is_empty() {
            "'{}'".to_owned()
        } else {
            format!("'{{' || substr({}, 2) || '}}'", fields.join(" || "))
        }
    }

    /// SQL of a value that the JSON functions of SQLite spell canonically.
    fn json(&self, index: usize, table: &str) -> String {
        let value = format!("{table}.{}", self.name(index));
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
            let value = format!("{table}.{}", quote(&self.columns[*index].column.name));
            let text = match self.columns[*index].form {
                Form::Bool => {
                    format!("CASE WHEN {value} THEN 'true' WHEN {value} IS NOT NULL THEN 'false' END")
                }
                Form::Bytes => format!("deltamesh_base64({value})"),
                _ => value,
            };
            let separator = if position == 0 { ".' || " } else { " || '.' || " };
            sql.push_str(&format!("{separator}deltamesh_token({text})"));
        }
        sql
    }
}
