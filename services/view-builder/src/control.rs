//! Requests about the replica: views, SQL, verification.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use deltamesh_jetstream::{Code, Request, Requests, ServiceError};
use deltamesh_replica::{Error, ErrorKind, Limits, Location, Progress, Reader, Result, ViewState, Writer};
use deltamesh_wire::subject;
use serde_json::{Value as Json, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Longest time that a SELECT may run.
const QUERY_TIME: Duration = Duration::from_secs(60);
/// Longest time that counting rows for an estimate may take.
const COUNT_TIME: Duration = Duration::from_secs(10);
/// Longest time that the verification of all views may take.
const VERIFY_TIME: Duration = Duration::from_secs(3600);
/// Payload bytes of one reply, far enough below the server's limit.
const REPLY_BYTES: usize = 256 << 10;
/// Requests that read at once.
const READERS: usize = 4;
/// Requests to change views that wait for the loop.
const WAITING: usize = 32;

/// A request that the loop answers, between two transactions.
pub(crate) struct ViewChange {
    pub(crate) operation: String,
    pub(crate) request: Request,
}

/// Answers requests that only read, beside the loop.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    location: Location,
    writer: Arc<Writer>,
    reading: Arc<Semaphore>,
}

impl Control {
    pub(crate) fn new(location: &Location, writer: Arc<Writer>) -> Self {
        Self { location: location.clone(), writer, reading: Arc::new(Semaphore::new(READERS)) }
    }

    /// Takes the requests to a replica: what reads is answered while a transaction runs, what changes views is handed on.
    pub(crate) fn route(
        self,
        mut requests: Requests,
        replica: &str,
    ) -> (mpsc::Receiver<ViewChange>, JoinHandle<()>) {
        let prefix = subject::replica_request(replica, "");
        let (changes, waiting) = mpsc::channel(WAITING);
        let routing = tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let operation = request.subject.strip_prefix(&prefix).unwrap_or(&request.subject).to_owned();
                if !matches!(operation.as_str(), "view.create" | "view.drop") {
                    self.spawn(operation, request);
                    continue;
                }
                let refused = changes.try_send(ViewChange { operation, request });
                if let Err(mpsc::error::TrySendError::Full(ViewChange { operation, request })) = refused {
                    let busy =
                        ServiceError::new(Code::ResourceExhausted, "too many views wait to be changed");
                    if let Err(error) = request.fail(&busy).await {
                        tracing::warn!(operation, error = error.chain(), "cannot answer a request");
                    }
                }
            }
        });
        (waiting, routing)
    }

    /// Answers everything except what changes views.
    fn spawn(&self, operation: String, request: Request) {
        let control = self.clone();
        tokio::spawn(async move {
            let sent = match control.answer(&operation, &request).await {
                Ok(Some(reply)) => request.reply(reply).await,
                Ok(None) => Ok(()),
                Err(error) => request.fail(&service_error(&error)).await,
            };
            if let Err(error) = sent {
                tracing::warn!(operation, error = error.chain(), "cannot answer a request");
            }
        });
    }

    async fn answer(&self, operation: &str, request: &Request) -> Result<Option<Vec<u8>>> {
        match operation {
            "view.list" => {
                let views = self.writer.call(|replica| Ok(replica.views())).await?;
                Ok(Some(list(&views).to_string().into_bytes()))
            }
            "view.explain" => {
                let text = text(request)?;
                let explained = self.writer.call(move |replica| replica.explain(&text)).await?;
                let (lookups, limits) = (explained.lookups(), Limits { time: COUNT_TIME });
                let counts = self.read(move |reader| reader.count(&lookups, limits)).await?;
                Ok(Some(explained.estimated(&counts).to_string().into_bytes()))
            }
            "sql" => self.select(request).await.map(|()| None),
            "verify" => {
                let views = self.writer.call(|replica| Ok(replica.views())).await?;
                let limits = Limits { time: VERIFY_TIME };
                let verified = self.read(move |reader| reader.verify(&views, limits)).await?;
                let rows = verified.into_iter().map(|verified| {
                    json!({"view": verified.view, "missing": verified.missing, "extra": verified.extra})
                });
                Ok(Some(Json::Array(rows.collect()).to_string().into_bytes()))
            }
            _ => Err(Error::new(ErrorKind::NotFound, format!("operation {operation}"), "does not exist")),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let ended = || Error::new(ErrorKind::Stopped, "read replica", "has ended");
        let _permit = self.reading.acquire().await.map_err(|_| ended())?;
        crate::reading::Reading::new(&self.location).read(work).await
    }

    /// Replies with pages of rows, then with an empty message.
    async fn select(&self, request: &Request) -> Result<()> {
        let sql = text(request)?;
        let (pages, mut ready) = mpsc::channel::<Vec<u8>>(2);
        let send = async {
            while let Some(page) = ready.recv().await {
                request.reply(page).await?;
            }
            Ok::<_, deltamesh_jetstream::Error>(())
        };
        let limits = Limits { time: QUERY_TIME };
        let read = self.read(move |reader| {
            reader.query(&sql, &[], limits, &mut |columns, rows| {
                for page in split(columns, rows) {
                    if pages.blocking_send(page).is_err() {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })
        });
        let (read, sent) = tokio::join!(read, send);
        read?;
        let unsent = |error: deltamesh_jetstream::Error| {
            Error::new(ErrorKind::Io, "answer query", error.chain()).caused_by(error)
        };
        sent.map_err(unsent)?;
        request.reply(Vec::new()).await.map_err(unsent)
    }
}

/// Rows as replies of bounded size; at least one, for the column names.
fn split(columns: &[String], rows: Vec<Vec<Json>>) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    let mut page = Vec::new();
    let mut bytes = 0;
    let encode = |rows: &mut Vec<Json>| {
        json!({"columns": columns, "rows": std::mem::take(rows)}).to_string().into_bytes()
    };
    for row in rows {
        let row = Json::Array(row);
        bytes += row.to_string().len();
        page.push(row);
        if bytes >= REPLY_BYTES {
            pages.push(encode(&mut page));
            bytes = 0;
        }
    }
    if !page.is_empty() || pages.is_empty() {
        pages.push(encode(&mut page));
    }
    pages
}

fn list(views: &[ViewState]) -> Json {
    let view = |view: &ViewState| {
        let definition = &view.definition;
        let progress = |progress: Progress| {
            json!({
                "rows": progress.rows, "of": progress.total, "per_second": progress.per_second,
                "seconds_left": progress.seconds_left(),
            })
        };
        json!({
            "name": definition.name,
            "module": view.module,
            "key": definition.key,
            "subject": definition.subject,
            "columns": definition.columns,
            "sql": definition.sql,
            "fault": view.fault,
            "filling": view.filling.map(progress),
            "replacement": view.replacement.as_ref().map(|next| json!({
                "filling": next.filling.map(progress), "fault": next.fault,
            })),
        })
    };
    Json::Array(views.iter().map(view).collect())
}

/// The payload as text.
pub(crate) fn text(request: &Request) -> Result<String> {
    let invalid = |error| Error::new(ErrorKind::Plan, "request", "payload is not UTF-8").caused_by(error);
    std::str::from_utf8(&request.payload).map(|text| text.trim().to_owned()).map_err(invalid)
}

/// The error of a reply.
pub(crate) fn service_error(error: &Error) -> ServiceError {
    let code = match error.kind() {
        ErrorKind::Plan | ErrorKind::Denied | ErrorKind::Sql => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::FailedPrecondition,
        ErrorKind::Full => Code::ResourceExhausted,
        ErrorKind::Busy | ErrorKind::Io | ErrorKind::Stopped | ErrorKind::Locked => Code::Unavailable,
        ErrorKind::Interrupted => Code::DeadlineExceeded,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Version | ErrorKind::Gap | ErrorKind::Decode => Code::Internal,
    };
    ServiceError::new(code, error.to_string())
}
