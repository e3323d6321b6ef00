//! Whole modules: what is inferred, what is annotated, what is refused where and why, and rows as messages.

#![allow(clippy::unwrap_used, clippy::panic)]

mod accepted;
mod evolution;
mod migrations;
mod refused;
mod rows;

use std::fmt::Write as _;

use deltamesh_module::{MethodBinding, ModuleDefinition, SourceFile};

/// The chat service of many tutorials, without any annotation.
pub(crate) const CHATPB: &str = r#"syntax="proto3"; option go_package="./chatpb"; package chatpb;
service ChatService { rpc JoinChannel(Channel) returns (stream Message) {} rpc SendMessage(stream Message) returns (MessageAck) {} }
message Channel { string name=1; string senders_name=2; }
message Message { string sender=1; Channel channel=2; string message=3; }
message MessageAck { string status=1; }
"#;

pub(crate) fn compile(proto: &str, sql: &str) -> Result<ModuleDefinition, deltamesh_module::Error> {
    ModuleDefinition::compile("m", &[SourceFile::new("m.proto", proto)], &[SourceFile::new("m.sql", sql)])
}

/// Everything that a module consists of, as text.
pub(crate) fn describe(module: &ModuleDefinition) -> String {
    let mut text = String::new();
    for relation in &module.relations {
        let _ = writeln!(text, "relation {} key {:?}", relation.name, relation.key);
        for field in &relation.fields {
            let null = if field.nullable { " null" } else { "" };
            let _ = writeln!(text, "  {} {}{null}", field.name, field.field_type.name());
        }
    }
    for method in &module.methods {
        let binding = match &method.binding {
            MethodBinding::Mutation { relation, kind } => format!("{kind:?} into {relation}"),
            MethodBinding::Feed { view, filters, delivery } => {
                let conditions: Vec<String> = filters
                    .iter()
                    .map(|filter| {
                        let always = if filter.always { " always" } else { "" };
                        format!("{} = request {}{always}", filter.column.join("."), filter.request.join("."))
                    })
                    .collect();
                format!("feed of {view} where {conditions:?} {delivery:?}")
            }
            MethodBinding::Query { sql, parameters, rows } => {
                format!("query {sql:?} {parameters:?} rows {rows:?}")
            }
        };
        let _ = writeln!(text, "{} {binding}", method.path());
    }
    for file in module.sql.iter().filter(|file| !file.text.is_empty()) {
        let _ = writeln!(text, "{}: {}", file.path, file.text.trim());
    }
    text
}
