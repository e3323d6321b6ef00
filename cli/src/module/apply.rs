//! Giving a module to all services, and taking it back where one refuses.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use deltamesh_jetstream::{Bucket, BucketEvent, BucketName, Client, gather_status};
use deltamesh_module::ModuleDefinition;
use deltamesh_wire::proto::module::v1::{Module, Outcome};
use prost::Message as _;
use tokio::time::{Instant, timeout_at};

use super::files::in_folder;
use crate::output;

/// How long all services together may take. Filling a view takes its time.
const ACCEPT_WITHIN: Duration = Duration::from_secs(60);
/// How long a refusal may turn into an acceptance: a view may be refused before the table that the
/// same module declares has arrived at the replica.
const REFUSAL_STANDS_AFTER: Duration = Duration::from_secs(5);
/// Services that have an opinion on every module.
const SERVICES: [&str; 2] = ["view-builder", "feed-gateway"];
/// Has one where a module declares relations that it hosts.
const HOST: &str = "ingest-genji";

/// A version of a module that was given to the services.
#[derive(Debug)]
pub(crate) struct Applied {
    module: Module,
    former: Option<Module>,
    declares_relations: bool,
}

/// What the services made of it: service → nothing, or why it was refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    outcomes: BTreeMap<String, Option<String>>,
    /// Services that have not answered in time.
    silent: Vec<String>,
}

impl Verdict {
    pub(crate) fn accepted(&self) -> impl Iterator<Item = (&str, ())> {
        self.outcomes
            .iter()
            .filter(|(_, refusal)| refusal.is_none())
            .map(|(service, _)| (service.as_str(), ()))
    }

    fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        let refused = self.outcomes.iter();
        refused.filter_map(|(service, refusal)| Some((service.as_str(), refusal.as_deref()?)))
    }
}

/// Puts the next version of a module into the bucket, unless rows written under the former one could not be read under it.
pub(crate) async fn put(client: &Client, dir: &Path, definition: &ModuleDefinition) -> Result<Applied> {
    let bucket = Bucket::open(client, BucketName::Modules).await?;
    let former = match bucket.get(&definition.name).await? {
        Some(value) => Some(Module::decode(value).context("read the former version of the module")?),
        None => None,
    };
    if let Some(former) = &former {
        let former = ModuleDefinition::from_wire(former).context("read the former version of the module")?;
        definition
            .check_successor_of(&former)
            .map_err(|error| anyhow!("{}", in_folder(dir, &error.to_string())))?;
    }
    let version = former.as_ref().map_or(1, |former| former.version + 1);
    let module = definition.to_wire(version);
    bucket.put(&module.name, module.encode_to_vec()).await?;
    Ok(Applied { module, former, declares_relations: !definition.relations.is_empty() })
}

impl Applied {
    pub(crate) fn name(&self) -> &str {
        &self.module.name
    }

    pub(crate) fn version(&self) -> u64 {
        self.module.version
    }

    /// Waits until every running service has said what it makes of the module.
    pub(crate) async fn verdict(&self, client: &Client) -> Result<Verdict> {
        let running = gather_status(client, Duration::from_millis(250)).await?;
        let asked =
            |service: &str| SERVICES.contains(&service) || (service == HOST && self.declares_relations);
        let mut missing: Vec<String> =
            running.iter().map(|status| status.service.clone()).filter(|service| asked(service)).collect();
        let mut watch = Bucket::open(client, BucketName::ModuleStatus).await?.watch();
        let mut verdict = Verdict::default();
        let end = Instant::now() + ACCEPT_WITHIN;
        let mut deadline = end;
        while !missing.is_empty() || verdict.refused().next().is_some() {
            let Ok(event) = timeout_at(deadline, watch.next()).await else { break };
            let BucketEvent::Entry(entry) = event? else { continue };
            let Some((service, outcome)) = self.outcome(&entry.key, entry.value)? else { continue };
            if !verdict.outcomes.contains_key(&service) {
                let program = service.split('.').next().unwrap_or_default();
                if let Some(index) = missing.iter().position(|name| name == program) {
                    missing.remove(index);
                }
            }
            verdict.outcomes.insert(service, (!outcome.accepted).then_some(outcome.error));
            let refused = verdict.refused().next().is_some();
            deadline = if refused { end.min(Instant::now() + REFUSAL_STANDS_AFTER) } else { end };
        }
        verdict.silent = missing;
        Ok(verdict)
    }

    /// The outcome of this very version, if the entry is one.
    fn outcome(&self, key: &str, value: Option<Bytes>) -> Result<Option<(String, Outcome)>> {
        let service = key.strip_prefix(self.name()).and_then(|rest| rest.strip_prefix('.'));
        let (Some(service), Some(value)) = (service, value) else { return Ok(None) };
        let outcome = Outcome::decode(value).with_context(|| format!("read the outcome {key}"))?;
        Ok((outcome.version == self.version()).then(|| (service.to_owned(), outcome)))
    }

    /// Whether all services have accepted. Says who has not and why; after a refusal the former
    /// version is put back, as the next one, so that it keeps serving after a restart too.
    pub(crate) async fn settle(&self, client: &Client, verdict: &Verdict, dir: &Path) -> Result<bool> {
        let refusals: Vec<(&str, &str)> = verdict.refused().collect();
        for (service, reason) in &refusals {
            output::complain(&format!("{}\n  refused by {service}", in_folder(dir, reason)));
        }
        for service in &verdict.silent {
            let seconds = ACCEPT_WITHIN.as_secs();
            output::complain(&format!("{service} says nothing within {seconds} s; see `deltamesh status`"));
        }
        if verdict.outcomes.is_empty() && verdict.silent.is_empty() {
            output::complain("no service answers; `deltamesh up` starts them and they will find the module");
            return Ok(false);
        }
        if refusals.is_empty() {
            return Ok(verdict.silent.is_empty());
        }
        let bucket = Bucket::open(client, BucketName::Modules).await?;
        match &self.former {
            Some(former) => {
                let again = Module { version: self.version() + 1, ..former.clone() };
                bucket.put(&again.name, again.encode_to_vec()).await?;
                output::complain(&format!(
                    "module {} is refused; its former version keeps serving",
                    self.name()
                ));
            }
            None => {
                bucket.delete(self.name()).await?;
                output::complain(&format!("module {} is refused", self.name()));
            }
        }
        Ok(false)
    }
}
