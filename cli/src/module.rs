//! `deltamesh module`: apply, check, list, remove.

mod apply;
mod files;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use deltamesh_jetstream::{Bucket, BucketName};
use deltamesh_module::{MethodBinding, ModuleDefinition};
use deltamesh_wire::proto::module::v1::{Module as Stored, Outcome};
use prost::Message as _;

use crate::mesh::Mesh;
use crate::options::{Module, Place};
use crate::output;

pub(crate) use apply::put;
pub(crate) use files::{compile, is_valid};

pub(crate) async fn run(place: &Place, command: Module) -> Result<ExitCode> {
    match command {
        Module::Check { folder } => check(&folder),
        Module::Apply { folder } => {
            let module = compile(&folder)?;
            apply(&Mesh::find(place).await?, &folder, &module).await
        }
        Module::List => list(&Mesh::find(place).await?).await,
        Module::Remove { name } => remove(&Mesh::find(place).await?, &name).await,
    }
}

fn check(dir: &Path) -> Result<ExitCode> {
    let module = compile(dir)?;
    for relation in &module.relations {
        let fields: Vec<&str> = relation.fields.iter().map(|field| field.name.as_str()).collect();
        let key = if relation.key.is_empty() { "numbered".to_owned() } else { relation.key.join(", ") };
        output::line(&format!("relation {} ({}), key {key}", relation.name, fields.join(", ")))?;
    }
    for method in &module.methods {
        let does = match &method.binding {
            MethodBinding::Mutation { relation, .. } => format!("mutation of {relation}"),
            MethodBinding::Feed { view, .. } => format!("feed of {view}"),
            MethodBinding::Query { .. } => "query".to_owned(),
        };
        output::line(&format!("method {}/{}: {does}", method.service, method.name))?;
    }
    for file in &module.sql {
        output::line(&format!("SQL {}", file.path))?;
    }
    for file in &module.migrations {
        output::line(&format!("migration {}", file.path))?;
    }
    output::line(&format!(
        "module {} compiles; what its SQL names is looked up when it is applied",
        module.name
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn apply(mesh: &Mesh, dir: &Path, module: &ModuleDefinition) -> Result<ExitCode> {
    let applied = put(&mesh.client, dir, module).await?;
    let verdict = applied.verdict(&mesh.client).await?;
    for (service, _) in verdict.accepted() {
        output::line(&format!("accepted by {service}"))?;
    }
    if applied.settle(&mesh.client, &verdict, dir).await? {
        output::line(&format!("module {} version {} is live", applied.name(), applied.version()))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

async fn list(mesh: &Mesh) -> Result<ExitCode> {
    let outcomes = Bucket::open(&mesh.client, BucketName::ModuleStatus).await?.entries().await?;
    let mut entries = Bucket::open(&mesh.client, BucketName::Modules).await?.entries().await?;
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let mut rows = Vec::new();
    for entry in &entries {
        let stored = Stored::decode(entry.value.clone().unwrap_or_default()).context("read the module")?;
        let mut said = Vec::new();
        for outcome in &outcomes {
            let service = outcome.key.strip_prefix(&format!("{}.", entry.key));
            let (Some(service), Some(value)) = (service, &outcome.value) else { continue };
            let outcome = Outcome::decode(value.clone()).context("read the outcome")?;
            said.push(match (outcome.version == stored.version, outcome.accepted) {
                (true, true) => service.to_owned(),
                (true, false) => format!("{service} REFUSED: {}", outcome.error),
                (false, _) => format!("{service} has version {}", outcome.version),
            });
        }
        said.sort();
        rows.push(vec![entry.key.clone(), stored.version.to_string(), said.join("; ")]);
    }
    output::table(&["MODULE", "VERSION", "ACCEPTED BY"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(mesh: &Mesh, name: &str) -> Result<ExitCode> {
    let bucket = Bucket::open(&mesh.client, BucketName::Modules).await?;
    if !is_valid(name) || bucket.get(name).await?.is_none() {
        anyhow::bail!("there is no module {name}; `deltamesh module list` shows what there is");
    }
    bucket.delete(name).await?;
    output::line(&format!("module {name} is removed"))?;
    Ok(ExitCode::SUCCESS)
}
