//! From an application's commit to a subscriber, idle and at a paced rate, and beside it the bare path.
//!
//! The clock starts before the commit, so the engine's own fsync is part of both figures.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;

use crate::Plan;
use crate::bare;
use crate::figures::Latencies;
use crate::mesh::Mesh;

/// Commits a second of the idle run.
const IDLE: u64 = 20;
/// Commits a second of the busy run.
const BUSY: u64 = 1000;
/// Rows of the load phase stay below this id.
const FIRST: i64 = 1 << 40;

/// Path and rival alternate at both rates.
pub(crate) async fn run(mesh: &Mesh, plan: &Plan) -> Result<()> {
    println!("latency: from before a one-row commit to the subscriber's message, {} s a run", plan.seconds);
    let mut first = FIRST;
    for per_second in [IDLE, BUSY] {
        for _ in 0..2 {
            let count = i64::try_from(per_second * plan.seconds)?;
            let path = path(mesh, first, count, per_second).await?;
            first += count;
            println!("  {per_second:>5}/s  path {}", path.line());
            let bare = bare::run(&mesh.nats, &mesh.scratch("bare.log"), count, per_second).await?;
            println!("  {per_second:>5}/s  bare {}", bare.line());
            println!("  {per_second:>5}/s  p50 path/bare {:.2}", path.quantile(0.5) / bare.quantile(0.5));
        }
    }
    Ok(())
}

async fn path(mesh: &Mesh, first: i64, count: i64, per_second: u64) -> Result<Latencies> {
    let client = deltamesh_jetstream::connect(&mesh.nats, "bench").await?;
    let mut feed = client.nats().subscribe("feed.long_message.>").await?;
    client.nats().flush().await?;
    let subscriber = tokio::spawn(async move {
        let mut arrived = HashMap::new();
        while arrived.len() < usize::try_from(count)? {
            let message =
                tokio::time::timeout(Duration::from_secs(60), feed.next()).await?.context("feed ended")?;
            let now = Instant::now();
            let row: serde_json::Value = serde_json::from_slice(&message.payload)?;
            // Above 2^53 canonical JSON would be text; the ids stay below.
            let id = row["message_id"].as_i64().context("row without message_id")?;
            if id >= first {
                arrived.insert(id, now);
            }
        }
        anyhow::Ok(arrived)
    });
    let committed = tokio::task::block_in_place(|| {
        paced(count, per_second, |index| {
            mesh.commit(first + index, 1)?;
            Ok(first + index)
        })
    })?;
    let arrived = subscriber.await??;
    let latency = |(id, at): (i64, Instant)| arrived.get(&id).map(|arrived| arrived.duration_since(at));
    Ok(Latencies::new(committed.into_iter().filter_map(latency).collect()))
}

/// Calls `act` `count` times at a fixed rate and returns what it returned with the time before each call. A late call is not
/// skipped: the next ones follow at once.
pub(crate) fn paced<T>(
    count: i64,
    per_second: u64,
    mut act: impl FnMut(i64) -> Result<T>,
) -> Result<Vec<(T, Instant)>> {
    let started = Instant::now();
    let interval = Duration::from_nanos(1_000_000_000 / per_second);
    let mut done = Vec::new();
    for index in 0..count {
        let due = started + interval * u32::try_from(index)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let before = Instant::now();
        done.push((act(index)?, before));
    }
    Ok(done)
}
