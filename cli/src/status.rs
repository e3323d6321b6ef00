//! `deltamesh status`: each hop's position, lag and rate, and what does not work.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use deltamesh_jetstream::{Fault, Hop, Status as Instance, gather_status, now_us};
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::options::{Place, Status};
use crate::output;

/// How long to listen for answers.
const GATHER: Duration = Duration::from_millis(500);

pub(crate) async fn run(place: &Place, status: &Status) -> Result<ExitCode> {
    let mesh = Mesh::find(place).await?;
    let instances = gather_status(&mesh.client, GATHER).await?;
    if instances.is_empty() {
        bail!("NATS answers, but no service does; `deltamesh up` starts them");
    }
    if status.json {
        output::line(&as_json(&instances).to_string())?
    } else {
        show(&instances)?
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(instances: &[Instance]) -> Value {
    let of = |instance: &Instance, item: Value| {
        let mut object = json!({ "service": instance.service, "instance": instance.instance });
        if let (Value::Object(object), Value::Object(item)) = (&mut object, item) {
            object.extend(item);
        }
        object
    };
    let hops = |instance: &Instance| -> Vec<Value> {
        instance.hops.iter().map(|hop| of(instance, json!(hop))).collect()
    };
    let faults = |instance: &Instance| -> Vec<Value> {
        instance.faults.iter().map(|fault| of(instance, json!(fault))).collect()
    };
    json!({
        "services": instances.iter().map(|it| of(it, json!({ "pid": it.pid }))).collect::<Vec<_>>(),
        "hops": instances.iter().flat_map(hops).collect::<Vec<_>>(),
        "faults": instances.iter().flat_map(faults).collect::<Vec<_>>(),
    })
}

fn show(instances: &[Instance]) -> Result<()> {
    let mut rows = Vec::new();
    for instance in instances {
        if instance.hops.is_empty() {
            rows.push(vec![instance.service.clone(), instance.instance.clone()]);
        }
        for Hop { hop, subject, position, lag, rate, .. } in &instance.hops {
            rows.push(vec![
                instance.service.clone(),
                instance.instance.clone(),
                hop.clone(),
                subject.clone(),
                position.clone(),
                lag.to_string(),
                format!("{rate:.1}/s"),
            ]);
        }
    }
    output::table(&["SERVICE", "INSTANCE", "HOP", "SUBJECT", "POSITION", "LAG", "RATE"], &rows)?;
    for instance in instances {
        for Fault { part, place, reason, since } in &instance.faults {
            let seconds = now_us().saturating_sub(*since) / 1_000_000;
            let service = &instance.service;
            output::line(&format!("FAULT {service} {part} at {place}: {reason} (since {seconds} s)"))?;
        }
    }
    Ok(())
}
