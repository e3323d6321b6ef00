//! `cargo xtask bench host`: mutations and sessions a second through a hosted source, each answer durable on disk and in the change log.
//!
//! Each caller sends one row and waits for the answer. The rows have a key and 100 bytes of text. The server flushes with every message,
//! as it should in use (`sync_interval: always`).

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use deltamesh_change::Value;
use deltamesh_jetstream::{Client, connect};
use deltamesh_testkit::NatsServer;
use deltamesh_wire::proto::source::v1::{
    ExecuteRequest, ExecuteResponse, MutateRequest, Mutation, mutation::Kind,
};
use prost::Message as _;

const WAIT: Duration = Duration::from_secs(30);
const CALLERS: [usize; 3] = [1, 16, 64];

/// Mutations and sessions a second through a hosted source.
#[derive(Debug, Parser)]
#[command(name = "bench host")]
struct Plan {
    /// Time of each measurement, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often the measurements alternate.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Another `ingest-genji` to measure.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_ingest-genji"))]
    program: PathBuf,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// The running host; dropping it kills it.
struct Host(Child);

impl Host {
    async fn start(program: &Path, nats: &NatsServer, client: &Client, dir: &Path) -> Result<Self> {
        let host = Command::new(program)
            .args(["--source", &format!("app=genji:{}?mode=host", dir.display()), "--nats", &nats.url()])
            .stderr(Stdio::null())
            .spawn()?;
        let host = Self(host);
        let until = Instant::now() + WAIT;
        while let Err(error) = execute(client, "", "CREATE TABLE t (id INTEGER PRIMARY KEY, pad TEXT)").await
        {
            if Instant::now() > until {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(host)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn execute(client: &Client, session: &str, statement: &str) -> Result<ExecuteResponse> {
    let (statement, session) = (statement.to_owned(), session.to_owned());
    let request = ExecuteRequest { statement, session, ..ExecuteRequest::default() };
    let reply = client.request("source.app.execute", request.encode_to_vec(), WAIT).await?;
    Ok(ExecuteResponse::decode(reply)?)
}

async fn mutate(client: &Client, id: i64) -> Result<()> {
    let row = vec![("id".to_owned(), Value::Int(id)), ("pad".to_owned(), Value::Text("x".repeat(100)))];
    let mutation = Mutation { relation: "t".to_owned(), kind: Kind::Insert.into(), row: Some(row.into()) };
    let request = MutateRequest { mutations: vec![mutation], ..MutateRequest::default() };
    client.request("source.app.mutate", request.encode_to_vec(), WAIT).await?;
    Ok(())
}

/// One row in a transaction of three requests.
async fn session(client: &Client, id: i64) -> Result<()> {
    let session = execute(client, "", "BEGIN").await?.session;
    let insert = format!("INSERT INTO t (id, pad) VALUES ({id}, '{}')", "x".repeat(100));
    execute(client, &session, &insert).await?;
    execute(client, &session, "COMMIT").await?;
    Ok(())
}

/// Answers a second, of that many callers.
async fn rate<F, R>(callers: usize, seconds: u64, ids: &Arc<AtomicI64>, call: F) -> Result<f64>
where
    F: Fn(i64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<()>> + Send,
{
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (call, ids) = (call.clone(), ids.clone());
            tokio::spawn(async move {
                let mut answers = 0_u32;
                while Instant::now() < until {
                    call(ids.fetch_add(1, Ordering::Relaxed)).await?;
                    answers += 1;
                }
                anyhow::Ok(answers)
            })
        })
        .collect();
    let mut answers = 0;
    for task in tasks {
        answers += task.await??;
    }
    Ok(f64::from(answers) / begun.elapsed().as_secs_f64())
}

async fn run(plan: &Plan) -> Result<()> {
    let nats = NatsServer::start()?;
    let client = connect(&nats.url(), "bench").await?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let _host = Host::start(&plan.program, &nats, &client, &folder.path().join("db")).await?;
    let ids = Arc::new(AtomicI64::new(1));
    for round in 1..=plan.rounds {
        for callers in CALLERS {
            let client = client.clone();
            let call = move |id| {
                let client = client.clone();
                async move { mutate(&client, id).await }
            };
            let rate = rate(callers, plan.seconds, &ids, call).await?;
            println!("round {round}: {rate:.0} mutations/s of {callers} callers");
        }
        let client = client.clone();
        let call = move |id| {
            let client = client.clone();
            async move { session(&client, id).await }
        };
        match rate(1, plan.seconds, &ids, call).await {
            Ok(rate) => println!("round {round}: {rate:.0} sessions/s of 1 caller"),
            Err(error) => println!("round {round}: no sessions: {error}"),
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let plan = Plan::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&plan))
}
