//! The services that every server has: reflection in two versions, and health.

use std::sync::Arc;

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::generated;
use crate::handler::Handler;
use crate::health::{Check, Watch};
use crate::reflection::{Catalog, ReflectionService};
use crate::router::{Router, Service, Services};

/// Adds them to a router that `services` will hold.
pub(crate) fn add(router: &mut Router, services: &Services) -> Result<(), prost_reflect::DescriptorError> {
    let pool = DescriptorPool::decode(generated::SERVICES)?;
    for descriptor in pool.services() {
        router.add(Service::new(descriptor, |method| handler(method, services)));
    }
    Ok(())
}

fn handler(method: &MethodDescriptor, services: &Services) -> Option<Arc<dyn Handler>> {
    let services = services.downgrade();
    match method.name() {
        "ServerReflectionInfo" => Some(Arc::new(ReflectionService::new(move || {
            services.upgrade().map(|services| Catalog::of(&services.current())).unwrap_or_default()
        }))),
        "Check" => Some(Arc::new(Check(services))),
        "Watch" => Some(Arc::new(Watch(services))),
        _ => None,
    }
}
