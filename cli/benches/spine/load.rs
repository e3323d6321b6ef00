//! Changes per second through the whole path under full load, and beside it raw upserts of the same rows.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use rusqlite::{Connection, OpenFlags};

use crate::Plan;
use crate::figures::{median, rate};
use crate::mesh::Mesh;
use crate::raw;

/// Rows of one transaction of the application.
const PER_TRANSACTION: i64 = 1000;
/// Longest wait for the rows of a round.
const PATIENCE: Duration = Duration::from_secs(300);

/// Alternates rounds of path and rival.
pub(crate) async fn run(mesh: &Mesh, plan: &Plan) -> Result<()> {
    println!("load: {} rows a round in transactions of {PER_TRANSACTION}, three views", plan.rows);
    let (mut replica, mut subscriber, mut rival, mut ratio) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let first = i64::try_from(round)? * plan.rows;
        let (at_replica, at_subscriber) = path(mesh, first, plan.rows).await?;
        let raw = raw::run(&mesh.scratch("raw.db"), first, plan.rows, PER_TRANSACTION)?;
        let figures = (rate(plan.rows, at_replica), rate(plan.rows, at_subscriber), rate(plan.rows, raw));
        println!(
            "  round {}: replica {:8.0}/s   subscriber {:8.0}/s   raw upserts {:8.0}/s   ratio {:.3}",
            round + 1,
            figures.0,
            figures.1,
            figures.2,
            figures.0 / figures.2
        );
        replica.push(figures.0);
        subscriber.push(figures.1);
        rival.push(figures.2);
        ratio.push(figures.0 / figures.2);
    }
    println!(
        "  median : replica {:8.0}/s   subscriber {:8.0}/s   raw upserts {:8.0}/s   ratio {:.3}",
        median(replica),
        median(subscriber),
        median(rival),
        median(ratio)
    );
    Ok(())
}

/// Time from the first commit until the replica has the rows, and until a subscriber has the last of them.
async fn path(mesh: &Mesh, first: i64, rows: i64) -> Result<(Duration, Duration)> {
    let client = deltamesh_jetstream::connect(&mesh.nats, "bench").await?;
    let mut feed = client.nats().subscribe("feed.long_message.>").await?;
    client.nats().flush().await?;
    let started = Instant::now();
    let subscriber = tokio::spawn(async move {
        for _ in 0..rows {
            feed.next().await.context("feed ended")?;
        }
        anyhow::Ok(started.elapsed())
    });
    let committed = tokio::task::block_in_place(|| {
        let mut next = first;
        while next < first + rows {
            mesh.commit(next, PER_TRANSACTION.min(first + rows - next))?;
            next += PER_TRANSACTION;
        }
        anyhow::Ok(started.elapsed())
    })?;
    println!("  the application committed {:8.0} rows/s", rate(rows, committed));
    let replica = tokio::task::block_in_place(|| await_rows(mesh, first + rows, started))?;
    let subscriber =
        tokio::time::timeout(PATIENCE, subscriber).await.context("subscriber misses rows")???;
    Ok((replica, subscriber))
}

fn await_rows(mesh: &Mesh, count: i64, started: Instant) -> Result<Duration> {
    let connection = Connection::open_with_flags(mesh.replica(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let mut last = connection.prepare("SELECT 1 FROM chat_feed WHERE message_id = ?1")?;
    while !last.exists([count - 1])? {
        anyhow::ensure!(started.elapsed() < PATIENCE, "the replica misses rows after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = started.elapsed();
    let found: i64 = connection.query_row("SELECT count(*) FROM chat_feed", [], |row| row.get(0))?;
    anyhow::ensure!(found == count, "the replica has {found} of {count} rows");
    Ok(elapsed)
}
