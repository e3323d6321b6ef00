//! One fixture case: a directory that the real engine wrote, and what the real engine reads in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use deltamesh_change::{RelationSchema, Row, Value};
use deltamesh_genji::{EXTRA, ReadOptions, Snapshot};
use serde_json::{Value as Json, json};

/// Rows of one relation: the key as text, and the document.
pub(crate) type Documents = BTreeMap<String, Json>;

/// A case, unpacked where it is packed.
pub(crate) struct Case {
    pub(crate) expected: Json,
    /// The directory after the last step, and its copy while the host still had it open.
    pub(crate) databases: Vec<PathBuf>,
    _unpacked: tempfile::TempDir,
}

impl Case {
    pub(crate) fn open(folder: &Path) -> Self {
        let expected = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        let unpacked = tempfile::tempdir().unwrap();
        for name in ["db", "live"] {
            let archive = folder.join(name).with_extension("tar.gz");
            if archive.exists() {
                let mut tar = Command::new("tar");
                assert!(
                    tar.arg("xzf").arg(&archive).arg("-C").arg(unpacked.path()).status().unwrap().success()
                );
            }
        }
        let places = ["db", "live"].map(|name| [folder.join(name), unpacked.path().join(name)]);
        let databases = places.into_iter().flatten().filter(|place| place.exists()).collect();
        Self { expected: serde_json::from_str(&expected).unwrap(), databases, _unpacked: unpacked }
    }

    /// The directory after the last step.
    pub(crate) fn database(&self) -> &Path {
        &self.databases[0]
    }

    /// The rows of the user's tables that have any, as the real engine read them.
    pub(crate) fn tables(&self) -> BTreeMap<String, Documents> {
        let tables = self.expected["tables"].as_object().unwrap();
        let user = tables
            .iter()
            .filter(|(name, rows)| !name.starts_with("__") && !rows.as_array().unwrap().is_empty());
        user.map(|(name, rows)| (name.clone(), rows.as_array().unwrap().iter().map(document).collect()))
            .collect()
    }
}

/// Key and document of a row of `expected.json`.
pub(crate) fn document(row: &Json) -> (String, Json) {
    let image = [&row["doc"], &row["after"], &row["before"]].into_iter().find(|image| !image.is_null());
    (simplified(&row["pk"]).to_string(), simplified(image.unwrap_or(&Json::Null)))
}

/// Doubles by their bits, long text and blobs by their length.
fn simplified(json: &Json) -> Json {
    match json {
        Json::Object(map) if map.contains_key("double") => json!({"double": map["bits"]}),
        Json::Object(map) if map.contains_key("len") => json!({"length": map["len"]}),
        Json::Object(map) => {
            Json::Object(map.iter().map(|(key, value)| (key.clone(), simplified(value))).collect())
        }
        Json::Array(values) => values.iter().map(simplified).collect(),
        other => other.clone(),
    }
}

/// A value in the form of `expected.json`, simplified.
fn typed(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!({"int": value.to_string()}),
        Value::Float(value) => json!({"double": format!("{:016x}", value.to_bits())}),
        Value::Text(text) if text.len() > 2048 => json!({"length": text.len()}),
        Value::Text(text) => json!({"text": text}),
        Value::Bytes(bytes) if bytes.len() > 2048 => json!({"length": bytes.len()}),
        Value::Bytes(bytes) => json!({"blob": base64::engine::general_purpose::STANDARD.encode(bytes)}),
        Value::Array(values) => json!({"array": values.iter().map(typed).collect::<Vec<_>>()}),
        Value::Document(fields) => {
            json!({"doc": fields.iter().map(|(name, value)| json!([name, typed(value)])).collect::<Vec<_>>()})
        }
        other => panic!("{}", other.kind()),
    }
}

/// Key values as text.
pub(crate) fn key_text(key: &[Value]) -> String {
    Json::from(key.iter().map(typed).collect::<Vec<_>>()).to_string()
}

/// Key and document of one of our rows.
pub(crate) fn of_row(schema: &RelationSchema, row: &Row) -> (String, Json) {
    let key: Vec<Value> = schema.key.iter().map(|&index| row[index].clone()).collect();
    let mut fields = Vec::new();
    for (index, (column, value)) in schema.columns.iter().zip(row).enumerate() {
        let is_made_for_key =
            schema.key.contains(&index) && (column.name.contains('.') || column.name == "__docid");
        match value {
            Value::Document(extra) if column.name == EXTRA => {
                fields.extend(extra.iter().map(|(name, value)| json!([name, typed(value)])));
            }
            Value::Null => {}
            _ if is_made_for_key => {}
            value => fields.push(json!([column.name, typed(value)])),
        }
    }
    (key_text(&key), json!({"doc": fields}))
}

/// The rows that a snapshot of a directory shows.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<String, Documents> {
    let snapshot = Snapshot::open(dir, &ReadOptions::default()).unwrap();
    let mut tables = BTreeMap::new();
    for schema in snapshot.relations() {
        schema.validate().unwrap();
        let rows = snapshot.rows(&schema.relation).unwrap();
        let rows: Documents = rows.map(|row| of_row(&schema, &row.unwrap())).collect();
        if !rows.is_empty() {
            tables.insert(schema.relation.clone(), rows);
        }
    }
    tables
}
