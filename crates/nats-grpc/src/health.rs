//! `grpc.health.v1.Health`: a service of the router serves, one that is not there is unknown.

use futures::future::BoxFuture;
use prost::Message;

use crate::generated::health::health_check_response::ServingStatus;
use crate::generated::health::{HealthCheckRequest, HealthCheckResponse};
use crate::handler::{Call, Handler};
use crate::router::{Router, WeakServices};
use crate::status::{Code, Status};

/// Method `Check`.
#[derive(Debug)]
pub(crate) struct Check(pub WeakServices);

/// Method `Watch`.
#[derive(Debug)]
pub(crate) struct Watch(pub WeakServices);

impl Handler for Check {
    fn call(&self, mut call: Call) -> BoxFuture<'static, Result<(), Status>> {
        let services = self.0.clone();
        Box::pin(async move {
            let service = requested(&mut call).await?;
            let router = services.upgrade().map(|services| services.current());
            match router.map_or(ServingStatus::NotServing, |router| serving(&router, &service)) {
                ServingStatus::ServiceUnknown => Err(Status::new(Code::NotFound, "unknown service")),
                status => call.responses.send(&encoded(status)).await,
            }
        })
    }
}

impl Handler for Watch {
    fn call(&self, mut call: Call) -> BoxFuture<'static, Result<(), Status>> {
        let services = self.0.clone();
        Box::pin(async move {
            let service = requested(&mut call).await?;
            let stopped = || Status::unavailable("server stops");
            let mut routers = services.upgrade().ok_or_else(stopped)?.subscribe();
            let mut last = None;
            loop {
                let status = serving(&routers.borrow_and_update().clone(), &service);
                if last != Some(status) {
                    call.responses.send(&encoded(status)).await?;
                    last = Some(status);
                }
                routers.changed().await.map_err(|_closed| stopped())?;
            }
        })
    }
}

async fn requested(call: &mut Call) -> Result<String, Status> {
    let request = call.requests.single().await?;
    HealthCheckRequest::decode(request)
        .map(|request| request.service)
        .map_err(|error| Status::invalid_argument(format!("decode health request: {error}")))
}

fn serving(router: &Router, service: &str) -> ServingStatus {
    if service.is_empty() || router.service(service).is_some() {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    }
}

fn encoded(status: ServingStatus) -> Vec<u8> {
    HealthCheckResponse { status: status.into() }.encode_to_vec()
}
