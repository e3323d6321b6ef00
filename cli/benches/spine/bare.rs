//! The rival of the latency: append and fsync a record, then two hops over JetStream with nothing in between.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use tokio::sync::mpsc;

use crate::figures::Latencies;
use crate::latency::paced;

/// A relation of a source that nobody captures, and a view that nobody maintains: their streams are the two hops.
const SOURCE: &str = "bench_bare";
const RELATION: &str = "record";

/// Publishes `count` records at a fixed rate; each is forwarded from the first stream to the second subject.
pub(crate) async fn run(nats: &str, log: &Path, count: i64, per_second: u64) -> Result<Latencies> {
    let client = deltamesh_jetstream::connect(nats, "bench-bare").await?;
    deltamesh_jetstream::ensure_changes(&client, SOURCE).await?;
    deltamesh_jetstream::ensure_changes(&client, "bench_second").await?;
    let second = deltamesh_wire::subject::changes("bench_second", RELATION);
    let forward = tokio::spawn(forward(client.clone(), second.clone(), count));
    let mut arrivals = client.nats().subscribe(second).await?;
    client.nats().flush().await?;
    let (records, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
    let publisher = client.clone();
    let publish = tokio::spawn(async move {
        while let Some(record) = queue.recv().await {
            let subject = deltamesh_wire::subject::changes(SOURCE, RELATION);
            publisher.nats().publish(subject, record.into()).await?;
        }
        anyhow::Ok(())
    });
    let subscriber = tokio::spawn(async move {
        let mut arrived = Vec::new();
        for _ in 0..count {
            tokio::time::timeout(Duration::from_secs(60), arrivals.next())
                .await?
                .context("bare path ended")?;
            arrived.push(Instant::now());
        }
        anyhow::Ok(arrived)
    });
    let mut file = File::options().create(true).append(true).open(log)?;
    let committed = tokio::task::block_in_place(|| {
        paced(count, per_second, |_| {
            let record = vec![b'x'; 150];
            file.write_all(&record)?;
            file.sync_data()?;
            records.send(record).context("publisher ended")
        })
    })?;
    drop(records);
    publish.await??;
    forward.await??;
    let arrived = subscriber.await??;
    let latency = |((), at): &((), Instant), arrived: Instant| arrived.duration_since(*at);
    Ok(Latencies::new(committed.iter().zip(arrived).map(|(at, arrived)| latency(at, arrived)).collect()))
}

async fn forward(client: deltamesh_jetstream::Client, subject: String, count: i64) -> Result<()> {
    let stream = deltamesh_wire::subject::changes_stream(SOURCE);
    let journal = deltamesh_jetstream::StreamJournal::open(&client, &stream).await?;
    let mut left = count;
    let first = deltamesh_jetstream::Journal::bounds(&journal).await?.last + 1;
    let mut consumer = deltamesh_jetstream::Consumer::open(&client, &stream, first).await?;
    while left > 0 {
        for message in consumer.next_batch(256, 1 << 20).await? {
            client.nats().publish(subject.clone(), message.payload).await?;
            left -= 1;
        }
    }
    client.nats().flush().await?;
    Ok(())
}
