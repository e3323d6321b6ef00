//! Modules as they are applied: compiled, served, reported. A bad one is refused and the one before keeps serving.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use deltamesh_jetstream::{Bucket, BucketEvent, BucketName, Client, Error, backoff};
use deltamesh_module::ModuleDefinition;
use deltamesh_nats_grpc::{Router, Server};
use deltamesh_wire::proto::module::v1::{Module, Outcome};
use prost::Message as _;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::SERVICE;
use crate::context::Context;
use crate::{generic, methods};

/// Part that faults of the watch itself name.
const PART: &str = "modules";

/// A module that is served.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) version: u64,
    pub(crate) definition: Arc<ModuleDefinition>,
}

impl Applied {
    /// Full names of its services.
    pub(crate) fn services(&self) -> Vec<&str> {
        self.definition.services()
    }
}

/// The modules that are served, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppliedModules(watch::Sender<Arc<BTreeMap<String, Applied>>>);

impl AppliedModules {
    pub(crate) fn current(&self) -> Arc<BTreeMap<String, Applied>> {
        Arc::clone(&self.0.borrow())
    }
}

/// Follows the bucket of modules for as long as the process lives.
pub(crate) async fn follow(client: Client, context: Arc<Context>, server: Arc<Server>) {
    let mut attempt = 0;
    loop {
        let error = match watch(&client, &context, &server).await {
            Ok(()) => return,
            Err(error) => error,
        };
        context.board.raise(PART, "bucket MODULES", error.chain());
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

async fn watch(client: &Client, context: &Arc<Context>, server: &Arc<Server>) -> Result<(), Error> {
    let bucket = Bucket::open(client, BucketName::Modules).await?;
    let outcomes = Bucket::open(client, BucketName::ModuleStatus).await?;
    let mut watch = bucket.watch();
    loop {
        let entry = match watch.next().await? {
            BucketEvent::Entry(entry) => entry,
            BucketEvent::Current => {
                context.board.clear(PART);
                continue;
            }
        };
        let result = match entry.value {
            Some(value) => apply(context, server, &entry.key, value).await,
            None => remove(context, server, &entry.key).await.map(|()| 0),
        };
        report(context, &outcomes, &entry.key, result).await?;
    }
}

/// Version and outcome of a module that was refused.
struct Refused {
    version: u64,
    reason: String,
}

async fn apply(context: &Arc<Context>, server: &Server, name: &str, value: Bytes) -> Result<u64, Refused> {
    let module = Module::decode(value)
        .map_err(|_| Refused { version: 0, reason: format!("{name}: entry is not a module") })?;
    let version = module.version;
    let refused = |reason: String| Refused { version, reason };
    let definition = ModuleDefinition::from_wire(&module).map_err(|error| refused(error.to_string()))?;
    let mut next = BTreeMap::clone(&context.applied.current());
    next.remove(name);
    for service in definition.services() {
        let taken = next.iter().find(|(_, other)| other.services().contains(&service));
        if let Some((other, _)) = taken {
            return Err(refused(format!("{name}: service {service} is that of module {other}")));
        }
        if service.starts_with("deltamesh.") || service.starts_with("grpc.") {
            return Err(refused(format!("{name}: service name {service} is reserved")));
        }
    }
    next.insert(name.to_owned(), Applied { version, definition: Arc::new(definition) });
    serve(context, server, next).await.map_err(refused)?;
    info!(module = name, version, "serving module");
    Ok(version)
}

async fn remove(context: &Arc<Context>, server: &Server, name: &str) -> Result<(), Refused> {
    let mut next = BTreeMap::clone(&context.applied.current());
    if next.remove(name).is_some() {
        serve(context, server, next).await.map_err(|reason| Refused { version: 0, reason })?;
        info!(module = name, "module removed");
    }
    Ok(())
}

/// Puts the services of all modules, and the generic ones, into force at once.
pub(crate) async fn serve(
    context: &Arc<Context>,
    server: &Server,
    modules: BTreeMap<String, Applied>,
) -> Result<(), String> {
    let mut router = Router::new();
    for service in generic::services(context).map_err(|error| error.to_string())? {
        router.add(service);
    }
    for module in modules.values() {
        for service in methods::services(context, &module.definition) {
            router.add(service);
        }
    }
    server.set_services(router).await.map_err(|error| error.to_string())?;
    context.applied.0.send_replace(Arc::new(modules));
    Ok(())
}

async fn report(
    context: &Context,
    outcomes: &Bucket,
    module: &str,
    result: Result<u64, Refused>,
) -> Result<(), Error> {
    let Context { board, nid, .. } = context;
    let part = format!("module {module}");
    let outcome = match result {
        Ok(version) => {
            board.clear(&part);
            Outcome { version, accepted: true, error: String::new() }
        }
        Err(Refused { version, reason }) => {
            warn!(module, version, reason, "module refused");
            board.raise(&part, format!("version {version}"), reason.as_str());
            Outcome { version, accepted: false, error: reason }
        }
    };
    outcomes.put(&format!("{module}.{SERVICE}.{nid}"), outcome.encode_to_vec()).await.map(drop)
}
