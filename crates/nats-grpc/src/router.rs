//! Which handler serves which method. A router is built whole and replaces the one before at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use tokio::sync::watch;

use crate::handler::Handler;
use crate::stats::MethodStats;

/// One method of a service.
pub struct Method {
    /// `/package.Service/Method`.
    pub path: Arc<str>,
    /// Its description.
    pub descriptor: MethodDescriptor,
    /// Whether the client sends any number of messages.
    pub client_streaming: bool,
    /// Whether the server sends any number of messages.
    pub server_streaming: bool,
    /// What serves its calls.
    pub handler: Arc<dyn Handler>,
    /// Its counters.
    pub stats: Arc<MethodStats>,
    /// Message that decodes as an empty response and is not empty: one field that the response does not have.
    pub(crate) padding: Vec<u8>,
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Method").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Method {
    fn new(descriptor: MethodDescriptor, handler: Arc<dyn Handler>) -> Self {
        Self {
            path: format!("/{}/{}", descriptor.parent_service().full_name(), descriptor.name()).into(),
            client_streaming: descriptor.is_client_streaming(),
            server_streaming: descriptor.is_server_streaming(),
            padding: padding(&descriptor.output()),
            descriptor,
            handler,
            stats: Arc::default(),
        }
    }

    /// One request, one response.
    #[must_use]
    pub fn is_unary(&self) -> bool {
        !self.client_streaming && !self.server_streaming
    }
}

fn padding(output: &MessageDescriptor) -> Vec<u8> {
    let number = (15..).find(|number| output.get_field(*number).is_none()).unwrap_or(15);
    let mut bytes = Vec::new();
    encode_key(number, WireType::Varint, &mut bytes);
    encode_varint(0, &mut bytes);
    bytes
}

/// A service: its description and a handler for each method that is served.
#[derive(Debug)]
pub struct Service {
    descriptor: ServiceDescriptor,
    methods: HashMap<String, Arc<Method>>,
}

impl Service {
    /// `handler` is asked for each method; one without handler answers `UNIMPLEMENTED`.
    pub fn new(
        descriptor: ServiceDescriptor,
        mut handler: impl FnMut(&MethodDescriptor) -> Option<Arc<dyn Handler>>,
    ) -> Self {
        let methods = descriptor
            .methods()
            .filter_map(|method| {
                let handler = handler(&method)?;
                Some((method.name().to_owned(), Arc::new(Method::new(method, handler))))
            })
            .collect();
        Self { descriptor, methods }
    }

    /// Full name, `package.Service`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.descriptor.full_name()
    }

    /// Its description.
    #[must_use]
    pub fn descriptor(&self) -> &ServiceDescriptor {
        &self.descriptor
    }

    /// Its served methods, in the order of the description.
    pub fn methods(&self) -> impl Iterator<Item = &Arc<Method>> {
        self.descriptor.methods().filter_map(|method| self.methods.get(method.name()))
    }

    /// A served method by its short name.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&Arc<Method>> {
        self.methods.get(name)
    }
}

/// All services of a server, by name.
#[derive(Debug, Default)]
pub struct Router {
    services: BTreeMap<String, Service>,
}

impl Router {
    /// No services.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service, in place of one of the same name.
    pub fn add(&mut self, service: Service) {
        self.services.insert(service.name().to_owned(), service);
    }

    /// The services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// A service by its full name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// The method of `/package.Service/Method`.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&Arc<Method>> {
        let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
        self.service(service)?.method(method)
    }

    /// Goes on with the counters of the methods that `former` has too.
    fn keep_stats(&mut self, former: &Self) {
        for (name, service) in &mut self.services {
            let Some(former) = former.service(name) else { continue };
            for (name, method) in &mut service.methods {
                if let (Some(former), Some(method)) = (former.method(name), Arc::get_mut(method)) {
                    method.stats = Arc::clone(&former.stats);
                }
            }
        }
    }
}

/// The router in force. All transports of a process look into the same one.
#[derive(Debug, Clone)]
pub struct Services(Arc<watch::Sender<Arc<Router>>>);

/// Does not keep the services alive: for handlers, which the services hold.
#[derive(Debug, Clone)]
pub(crate) struct WeakServices(Weak<watch::Sender<Arc<Router>>>);

impl Default for Services {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Arc::default())))
    }
}

impl Services {
    /// The router in force now.
    #[must_use]
    pub fn current(&self) -> Arc<Router> {
        Arc::clone(&self.0.borrow())
    }

    /// Follows the router: its receiver changes with each replacement.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Router>> {
        self.0.subscribe()
    }

    pub(crate) fn downgrade(&self) -> WeakServices {
        WeakServices(Arc::downgrade(&self.0))
    }

    /// Puts `router` into force.
    pub(crate) fn replace(&self, mut router: Router) {
        router.keep_stats(&self.current());
        self.0.send_replace(Arc::new(router));
    }
}

impl WeakServices {
    pub(crate) fn upgrade(&self) -> Option<Services> {
        self.0.upgrade().map(Services)
    }
}
