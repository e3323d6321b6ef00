//! A client of a hosted source's SQL.

use std::time::Duration;

use deltamesh_change::Value;
use deltamesh_jetstream::{Client, Code, Replies, ServiceError};
use deltamesh_wire::proto::source::v1::{ExecuteRequest, ExecuteResponse, FetchRequest};
use prost::Message as _;

use crate::LONG;

/// After this time a request is asked again.
const LOST: Duration = Duration::from_secs(2);

/// Sends statements; those of a session name it.
#[derive(Clone)]
pub(crate) struct Sql {
    client: Client,
}

impl Sql {
    pub(crate) fn new(client: &Client) -> Self {
        Self { client: client.clone() }
    }

    pub(crate) async fn send(&self, request: ExecuteRequest) -> Result<ExecuteResponse, ServiceError> {
        self.send_within(request, LONG).await
    }

    async fn send_within(
        &self,
        request: ExecuteRequest,
        wait: Duration,
    ) -> Result<ExecuteResponse, ServiceError> {
        let reply = self.client.request("source.app.execute", request.encode_to_vec(), wait).await?;
        Ok(ExecuteResponse::decode(reply).expect("response"))
    }

    /// Runs a statement in a session, or in none if that is empty.
    pub(crate) async fn run(&self, session: &str, statement: &str) -> Result<ExecuteResponse, ServiceError> {
        let (statement, session) = (statement.to_owned(), session.to_owned());
        self.send(ExecuteRequest { statement, session, ..ExecuteRequest::default() }).await
    }

    /// Sends a statement of no session; what is sent later comes behind it.
    pub(crate) async fn ask(&self, statement: &str) -> Answer {
        let request = ExecuteRequest { statement: statement.to_owned(), ..ExecuteRequest::default() };
        let replies = self.client.request_many("source.app.execute", request.encode_to_vec()).await;
        Answer(replies.expect("request"))
    }

    pub(crate) async fn run_with(
        &self,
        statement: &str,
        parameters: &[Value],
    ) -> Result<ExecuteResponse, ServiceError> {
        let parameters = parameters.iter().cloned().map(Into::into).collect();
        let statement = statement.to_owned();
        self.send(ExecuteRequest { statement, parameters, ..ExecuteRequest::default() }).await
    }

    pub(crate) async fn begin(&self) -> String {
        self.run("", "BEGIN").await.expect("begin").session
    }

    /// As [`Self::run`], without patience.
    pub(crate) async fn try_run(
        &self,
        session: &str,
        statement: &str,
    ) -> Result<ExecuteResponse, ServiceError> {
        let (statement, session) = (statement.to_owned(), session.to_owned());
        self.send_within(ExecuteRequest { statement, session, ..ExecuteRequest::default() }, LOST).await
    }

    /// As [`Self::run`], asked again until a host answers: a request can be lost with a host.
    pub(crate) async fn insist(
        &self,
        session: &str,
        statement: &str,
    ) -> Result<ExecuteResponse, ServiceError> {
        let until = tokio::time::Instant::now() + LONG;
        loop {
            match self.try_run(session, statement).await {
                Err(error) if [Code::Unavailable, Code::DeadlineExceeded].contains(&error.code) => {
                    assert!(tokio::time::Instant::now() < until, "{error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                result => return result,
            }
        }
    }

    /// All rows that a statement returns.
    pub(crate) async fn rows(&self, session: &str, statement: &str) -> Vec<String> {
        let mut answer = self.insist(session, statement).await.expect("rows");
        let mut rows = answer.documents;
        while !answer.next.is_empty() {
            answer = self.fetch(&answer.next).await.expect("page");
            rows.append(&mut answer.documents);
        }
        rows
    }

    pub(crate) async fn fetch(&self, next: &str) -> Result<ExecuteResponse, ServiceError> {
        let request = FetchRequest { next: next.to_owned() };
        let reply = self.client.request("source.app.fetch", request.encode_to_vec(), LONG).await?;
        Ok(ExecuteResponse::decode(reply).expect("response"))
    }
}

/// An answer that has not come yet.
pub(crate) struct Answer(Replies);

impl Answer {
    pub(crate) async fn take(mut self) -> Result<ExecuteResponse, ServiceError> {
        let reply = self.0.next(LONG).await?.expect("answer");
        Ok(ExecuteResponse::decode(reply).expect("response"))
    }
}
