//! The conversation, written by calls of the chat module's methods over nats-grpc.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use deltamesh_jetstream::{Client, now_us};
use deltamesh_module::{MethodDefinition, ModuleDefinition};
use deltamesh_nats_grpc::{self as grpc, CallOptions, ClientOptions, ResponseStream};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_types::Timestamp;
use serde_json::{Value, json};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const PEOPLE: [(&str, &str); 3] = [("anna", "Anna"), ("ben", "Ben"), ("chloe", "Chloe")];
const ROOMS: [(&str, &str); 2] = [("general", "General"), ("harbour", "Harbour office")];

/// One message of the conversation.
pub(super) struct Said {
    pub(super) user: &'static str,
    pub(super) chat: &'static str,
    pub(super) body: &'static str,
}

const fn said(user: &'static str, chat: &'static str, body: &'static str) -> Said {
    Said { user, chat, body }
}

pub(super) const LINES: [Said; 7] = [
    said("anna", "general", "Good morning. Did the Aurora come in?"),
    said("ben", "general", "At six. She wants fuel and leaves with the tide."),
    said("chloe", "harbour", "Berth 4 is free from noon."),
    said("anna", "general", "Then the Petrel gets berth 4."),
    said("ben", "harbour", "Told the Petrel. Arrival 12:40."),
    said("chloe", "harbour", "Noted. The pilot is on board at twelve."),
    said("ben", "general", "Fuel is done, the Aurora is casting off."),
];

/// A call that has been answered.
pub(super) struct Call {
    pub(super) at: Instant,
    /// Microseconds since 1970-01-01 UTC, to compare with what the services note.
    pub(super) at_us: u64,
    pub(super) answered: Duration,
    /// Source position that the answer names.
    pub(super) position: String,
    /// Id of the message that was written.
    pub(super) id: String,
}

/// A client of the chat module.
pub(super) struct Chat {
    calls: grpc::Client,
    definition: ModuleDefinition,
    /// Makes the ids of this run its own.
    run: u64,
}

impl Chat {
    pub(super) async fn open(client: &Client, nid: &str, definition: ModuleDefinition) -> Result<Self> {
        let options = ClientOptions { losses: Some(client.losses()), ..ClientOptions::default() };
        let calls = grpc::Client::new(client.nats().clone(), nid, options).await?;
        Ok(Self { calls, definition, run: now_us() / 1_000_000 })
    }

    /// People, rooms, and everybody in every room.
    pub(super) async fn open_rooms(&self) -> Result<()> {
        for (user, login) in PEOPLE {
            self.call("PutUser", json!({ "userId": user, "login": login })).await?;
        }
        for (chat, title) in ROOMS {
            self.call("PutChat", json!({ "chatId": chat, "title": title })).await?;
            for (user, _) in PEOPLE {
                let joined = json!({ "userId": user, "chatId": chat, "joinedAt": timestamp() });
                self.call("JoinChat", joined).await?;
            }
        }
        Ok(())
    }

    /// Posts line `index` of the conversation.
    pub(super) async fn say(&self, index: usize, said: &Said) -> Result<Call> {
        let id = format!("m{}-{index}", self.run);
        let message = json!({
            "chatMessageId": id, "chatId": said.chat, "userId": said.user, "body": said.body, "sentAt": timestamp(),
        });
        let (at, at_us) = (Instant::now(), now_us());
        let answer = self.call("PostMessage", message).await?;
        let position = answer["position"].as_str().unwrap_or_default().to_owned();
        Ok(Call { at, at_us, answered: at.elapsed(), position, id })
    }

    /// What a member of the room sees.
    pub(super) async fn watch(&self, chat: &str) -> Result<(MethodDefinition, ResponseStream)> {
        let method = self.method("WatchChat")?;
        let request = encode(method, json!({ "chatId": chat }))?;
        let stream = self.calls.server_streaming(&method.path(), &request, CallOptions::default()).await;
        Ok((method.clone(), stream.map_err(|status| anyhow!("WatchChat: {}", status.message))?))
    }

    async fn call(&self, name: &str, request: Value) -> Result<Value> {
        let method = self.method(name)?;
        let options = CallOptions { timeout: Some(ANSWER_WITHIN), ..CallOptions::default() };
        let answer = self.calls.unary(&method.path(), &encode(method, request)?, options).await;
        decode(method, answer.map_err(|status| anyhow!("{name}: {}", status.message))?)
    }

    fn method(&self, name: &str) -> Result<&MethodDefinition> {
        let method = self.definition.methods.iter().find(|method| method.name == name);
        method.map(AsRef::as_ref).with_context(|| format!("the module has no method {name}"))
    }
}

pub(super) fn rooms() -> impl Iterator<Item = &'static str> {
    ROOMS.iter().map(|(chat, _)| *chat)
}

fn encode(method: &MethodDefinition, request: Value) -> Result<Vec<u8>> {
    let message = DynamicMessage::deserialize(method.input.clone(), request);
    Ok(message.with_context(|| format!("request of {}", method.name))?.encode_to_vec())
}

/// An answer of the method in JSON.
pub(super) fn decode(method: &MethodDefinition, answer: bytes::Bytes) -> Result<Value> {
    let message = DynamicMessage::decode(method.output.clone(), answer);
    Ok(serde_json::to_value(message.with_context(|| format!("answer of {}", method.name))?)?)
}

fn timestamp() -> String {
    Timestamp::from(SystemTime::now()).to_string()
}
