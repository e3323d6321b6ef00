//! `deltamesh demo`: a chat is written through the public interface, and every hop shows what it makes of it.

mod chat;
mod hops;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use crate::options::Demo;
use crate::output::line;
use crate::{module, refused};

use chat::{Chat, LINES};
use hops::Hops;
use stage::Stage;

/// Pause between two messages, so that one can follow.
const PACE: Duration = Duration::from_millis(700);

pub(crate) async fn run(demo: &Demo) -> Result<ExitCode> {
    let signal = deltamesh_telemetry::shutdown_signal().context("listen for signals")?;
    let definition = module::compile(&demo.module)
        .map_err(|error| refused(format!("{error:#}; run the demo in the workspace's root folder")))?;
    line("starting deltamesh: a hosted Genji database, a NATS server, three services")?;
    let mut stage = Stage::set(&demo.folder, &demo.module).await?;
    let played = tokio::select! {
        played = play(&stage, definition, demo.once) => played,
        _ = signal => line("\nstopping"),
    };
    let stopped = stage.clear().await;
    played.and(stopped).map(|()| ExitCode::SUCCESS)
}

async fn play(stage: &Stage, definition: deltamesh_module::ModuleDefinition, once: bool) -> Result<()> {
    let running = &stage.running;
    line(&format!("ready after {:.1} s\n", stage.started.elapsed().as_secs_f64()))?;
    line(&format!("  see the chat at {}/chat\n", running.first.http))?;
    let chat = Chat::open(&stage.client, &running.first.nid, definition).await?;
    chat.open_rooms().await?;
    let mut hops = Hops::watch(&stage.client, running, &chat).await?;
    line("times are since the client's call, as somebody sees it who watches that hop\n")?;
    for (index, said) in LINES.iter().enumerate() {
        if index > 0 {
            sleep(if once { PACE / 7 } else { PACE }).await;
        }
        line(&format!("{} in {}: {}", said.user, said.chat, said.body))?;
        let call = chat.say(index, said).await?;
        hops.show(&call).await?;
    }
    stage.suggest()?;
    if once {
        return Ok(());
    }
    line("\nWhatever you write now appears here too. Ctrl-C ends the demo.\n")?;
    hops.follow().await
}
