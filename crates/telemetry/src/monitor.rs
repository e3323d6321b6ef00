//! The HTTP listener that watches a service: `/metrics` and `/healthz`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tracing::{info, warn};

/// Type of the `OpenMetrics` text format, version 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is served where.
pub struct Monitor {
    address: SocketAddr,
    metrics: Arc<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>,
}

impl Monitor {
    /// A listener on `address`; `metrics` gives the text of one scrape in the `OpenMetrics` format.
    pub fn new(
        address: SocketAddr,
        metrics: impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static,
    ) -> Self {
        Self { address, metrics: Arc::new(metrics) }
    }

    /// Serves in the background until the process ends. Returns the address, with the port that was taken where 0 was asked.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(self) -> io::Result<SocketAddr> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.address));
        let listener = tokio::net::TcpListener::bind(self.address).await.map_err(named)?;
        let address = listener.local_addr()?;
        let metrics = self.metrics;
        let routes = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/metrics", get(async move || scrape(&*metrics)));
        info!(%address, "metrics are at /metrics");
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                warn!(%error, "metrics are not served any more");
            }
        });
        Ok(address)
    }
}

fn scrape(metrics: &dyn Fn() -> Result<String, fmt::Error>) -> Response {
    match metrics() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_unwritable) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
