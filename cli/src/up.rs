//! `deltamesh up`: a NATS server and the services as children, kept running until a signal.
//!
//! Everything is read and checked before a process is started. Then: NATS, modules into their bucket, services; when every
//! service answers and every module is accepted, one line of JSON on stdout. SIGTERM or Ctrl-C drains in the order in
//! which changes flow: ingest, view-builder, gateway, NATS.

mod child;
mod fleet;
mod nats;
mod plan;
mod port;
mod ready;
mod replicas;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use deltamesh_module::ModuleDefinition;
use serde_json::json;
use tracing::{info, warn};

use crate::options::{Place, Up};
use crate::place::{Held, Running, Served};
use crate::{mesh, module, output, refused};

use fleet::Fleet;
use plan::Plan;
use replicas::Replica;

pub(crate) async fn run(place: &Place, up: Up) -> Result<ExitCode> {
    deltamesh_telemetry::init_logs("up").map_err(|error| refused(error.to_string()))?;
    let signal = deltamesh_telemetry::shutdown_signal().context("listen for signals")?;
    tokio::pin!(signal);
    let modules = up.modules.iter().map(|dir| Ok((dir.clone(), module::compile(dir)?)));
    let modules = modules.collect::<Result<Vec<_>>>()?;
    let mut plan = Plan::read(place, up)?;
    let held = Held::take(&place.dir)?;
    let mut fleet = Fleet::default();
    let outcome = tokio::select! {
        started = start(&mut plan, &held, &modules, &mut fleet) => started.map(|()| None),
        name = &mut signal => Ok(Some(name)),
    };
    let outcome = match outcome {
        Ok(None) => Ok(signal.await),
        Ok(Some(early)) => Ok(early),
        Err(error) => Err(error),
    };
    if let Ok(name) = outcome {
        info!(signal = name, "draining");
    }
    held.forget()?;
    // A second signal means now.
    let impatient = deltamesh_telemetry::shutdown_signal().context("listen for signals")?;
    tokio::select! {
        () = fleet.drain() => {}
        name = impatient => warn!(signal = name, "not waiting for the services to drain"),
    }
    outcome.map(|_| ExitCode::SUCCESS)
}

/// Starts everything and tells when it is ready.
async fn start(
    plan: &mut Plan,
    held: &Held,
    modules: &[(PathBuf, ModuleDefinition)],
    fleet: &mut Fleet,
) -> Result<()> {
    plan.check().await?;
    let mut ports = held.ports();
    let nats = match &plan.nats {
        Some(url) => url.clone(),
        None => nats::start(held, &mut ports, fleet).await?,
    };
    plan.take_ports(&mut ports)?;
    held.keep_ports(&ports)?;
    let client = mesh::reach(&nats).await?;
    let mut applied = Vec::new();
    for (dir, definition) in modules {
        applied.push((dir, module::put(&client, dir, definition).await?));
    }
    for program in plan.services(&nats) {
        fleet.add(program)?;
    }
    ready::services(&client, fleet).await?;
    for replica in &plan.replicas {
        ready::http(replica.http).await;
    }
    for (dir, applied) in &applied {
        let verdict = applied.verdict(&client).await?;
        if !applied.settle(&client, &verdict, dir).await? {
            bail!("module {} is refused, so that nothing runs; `up` without it would", applied.name());
        }
    }
    let served: Vec<Served> = plan.replicas.iter().map(Replica::served).collect();
    let (sources, pid) = (plan.source_names(), std::process::id());
    let [first, others @ ..] = served.as_slice() else { bail!("there is no replica") };
    let (first, others) = (first.clone(), others.to_vec());
    let line = json!({
        "ready": true, "nats": &nats, "http": &first.http, "nid": &first.nid, "replica": &first.replica,
        "sources": &sources, "replicas": &served,
    });
    held.announce(&Running { nats, sources, pid, first, others })?;
    output::line(&line.to_string())
}
