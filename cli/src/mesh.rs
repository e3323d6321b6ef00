//! The running services, as the commands reach them.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use deltamesh_jetstream::{Client, Code, ServiceError, connect};
use deltamesh_wire::subject;

use crate::options::{Place, Replica};
use crate::place::{self, Running};
use crate::refused;

/// How long a NATS server may take to accept the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const DEFAULT_REPLICA: &str = "main";

/// A connection to the services of one NATS server.
pub(crate) struct Mesh {
    pub(crate) client: Client,
    /// What `up` told in the folder; not there when the server was named.
    pub(crate) running: Option<Running>,
}

impl Mesh {
    /// Finds the server by `--nats`, else in the folder of `up`, and connects.
    pub(crate) async fn find(place: &Place) -> Result<Self> {
        let (url, running) = match &place.nats {
            Some(url) => (url.clone(), None),
            None => {
                let running = place::running(&place.dir)?;
                (running.nats.clone(), Some(running))
            }
        };
        Ok(Self { client: reach(&url).await?, running })
    }

    /// Name of the replica to ask.
    pub(crate) fn replica(&self, named: &Replica) -> Result<String> {
        let name = match (&named.replica, &self.running) {
            (Some(name), _) => name.clone(),
            (None, Some(running)) => running.first.replica_name.clone(),
            (None, None) => DEFAULT_REPLICA.to_owned(),
        };
        if !subject::is_valid_name(&name) {
            return Err(refused(format!("{name:?} is no name of a replica: use a-z, 0-9 and _")));
        }
        Ok(name)
    }

    /// Asks a replica for one answer.
    pub(crate) async fn ask(
        &self,
        replica: &str,
        operation: &str,
        payload: impl Into<Bytes>,
        wait: Duration,
    ) -> Result<Bytes> {
        let answer = self.client.request(&subject::replica_request(replica, operation), payload, wait).await;
        answer.map_err(|error| explained(replica, error))
    }
}

/// Connects within a bounded time.
pub(crate) async fn reach(url: &str) -> Result<Client> {
    match tokio::time::timeout(CONNECT_WITHIN, connect(url, "deltamesh")).await {
        Ok(connected) => connected.map_err(|error| refused(error.chain())),
        Err(_) => bail!("no NATS server answers at {url}: is it running? `deltamesh up` starts one"),
    }
}

/// A refusal of a replica, with the next step where nobody answers.
pub(crate) fn explained(replica: &str, error: ServiceError) -> anyhow::Error {
    match error.code {
        Code::Unavailable => anyhow!(error).context(format!(
            "no view-builder serves the replica {replica}; `deltamesh status` shows what runs"
        )),
        _ => anyhow!(error),
    }
}

/// The text of a SQL argument, `-` being standard input.
pub(crate) fn sql_text(argument: &str) -> Result<String> {
    if argument == "-" {
        return std::io::read_to_string(std::io::stdin()).context("read standard input");
    }
    Ok(argument.to_owned())
}
