//! What our server puts on the wire, byte for byte, for clients made of bytes.

use std::time::Duration;

use deltamesh_nats_grpc::{Options, UnaryEnd};

use crate::harness::{Harness, Wire};

const SAY_HELLO: &str = "nrpc.node1.echo.Echo.SayHello";
const JOIN_CHANNEL: &str = "nrpc.node1.chatpb.ChatService.JoinChannel";
const SEND_MESSAGE: &str = "nrpc.node1.chatpb.ChatService.SendMessage";
const ECHO: &str = "nrpc.node1.echo.Echo.Echo";
/// `Call` of a client that names its node id: `nid: "me"`.
const NAMED: &str = "1204 1a026d65";
/// `Call` of one that does not.
const UNNAMED: &str = "1200";

#[tokio::test]
async fn a_unary_call() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, SAY_HELLO).await;
    wire.send("12150a132f6563686f2e4563686f2f53617948656c6c6f").await;
    wire.send("1a090a070a0568656c6c6f").await;
    assert_eq!(wire.next().await, "1a090a070a0568656c6c6f");
    assert_eq!(wire.next().await, "2200");
    // The client's own End comes late, and means nothing.
    wire.send("2200").await;
    wire.assert_silent().await;
}

#[tokio::test]
async fn an_unknown_method() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, "nrpc.node1.echo.Echo.Unknown").await;
    wire.send(UNNAMED).await;
    wire.send("1a00").await;
    assert_eq!(wire.next().await, "22130a11080c120d556e696d706c656d656e746564");
    wire.assert_silent().await;
}

#[tokio::test]
async fn only_a_call_opens_a_call() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, SAY_HELLO).await;
    for stray in
        ["1a090a070a0568656c6c6f", "2200", "22140a120801120e636c69656e742073746f70706564", "0a00", "ffff"]
    {
        wire.send(stray).await;
    }
    wire.assert_silent().await;
    let counters = harness.server.counters();
    assert_eq!((counters.ignored, counters.undecodable, counters.opened), (4, 1, 1));
}

#[tokio::test]
async fn a_server_stream() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, JOIN_CHANNEL).await;
    wire.send(NAMED).await;
    wire.send("1a0e0a0c0a05656e643a331203626f62").await;
    for digit in ["30", "31", "32"] {
        let expected = format!("1a1b0a190a06736572766572120c0a05656e643a331203626f621a01{digit}");
        assert_eq!(wire.next().await, expected);
    }
    assert_eq!(wire.next().await, "2200");
    wire.assert_silent().await;
}

#[tokio::test]
async fn a_client_stream_and_a_second_call_on_its_inbox() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, SEND_MESSAGE).await;
    wire.send(NAMED).await;
    wire.send("1a120a100a03626f6212060a04726f6f6d1a0130").await;
    wire.send(NAMED).await;
    wire.send("1a120a101a01310a03626f6212060a04726f6f6d").await;
    wire.send("2200").await;
    assert_eq!(wire.next().await, "1a0c0a0a0a0853454e54206e3d32");
    assert_eq!(wire.next().await, "2200");
    wire.assert_silent().await;
}

#[tokio::test]
async fn a_half_close_is_no_empty_message() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, ECHO).await;
    wire.send(NAMED).await;
    wire.send("1a050a030a0161").await;
    assert_eq!(wire.next().await, "1a050a030a0161");
    wire.send("2200").await;
    assert_eq!(wire.next().await, "2200");
    wire.assert_silent().await;
}

#[tokio::test]
async fn a_cancelled_call_is_not_answered() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, ECHO).await;
    wire.send(NAMED).await;
    wire.send("22140a120801120e636c69656e742073746f70706564").await;
    harness.until(|counters| counters.cancelled == 1 && counters.open == 0).await;
    wire.assert_silent().await;
}

#[tokio::test]
async fn empty_messages_are_padded_for_unnamed_clients() {
    let harness = Harness::start().await;
    for (call, message) in [(NAMED, "1a00"), (UNNAMED, "1a040a027800")] {
        let mut wire = Wire::open(&harness.nats, JOIN_CHANNEL).await;
        wire.send(call).await;
        wire.send("1a0b0a090a07656d7074793a32").await;
        assert_eq!([wire.next().await, wire.next().await, wire.next().await], [message, message, "2200"]);
    }
}

#[tokio::test]
async fn no_end_after_unary_calls_if_so_set() {
    let harness = Harness::with(Options { unary_end: UnaryEnd::Never, ..Options::default() }).await;
    assert_eq!(harness.say("a").await.unwrap(), "a");
    let mut wire = Wire::open(&harness.nats, SAY_HELLO).await;
    wire.send(UNNAMED).await;
    wire.send("1a00").await;
    assert_eq!(wire.next().await, "1a00");
    wire.assert_silent().await;
}

#[tokio::test]
async fn a_delayed_end_after_unary_calls_if_so_set() {
    let unary_end = UnaryEnd::Delayed(Duration::from_millis(20));
    let harness = Harness::with(Options { unary_end, ..Options::default() }).await;
    let mut wire = Wire::open(&harness.nats, SAY_HELLO).await;
    wire.send(UNNAMED).await;
    wire.send("1a00").await;
    assert_eq!([wire.next().await, wire.next().await], ["1a00", "2200"]);
    wire.assert_silent().await;
}

#[tokio::test]
async fn damaged_envelopes_disturb_nothing() {
    let harness = Harness::start().await;
    let wire = Wire::open(&harness.nats, ECHO).await;
    let whole = [
        "12150a132f6563686f2e4563686f2f53617948656c6c6f",
        "1229 0a132f6563686f2e4563686f2f53617948656c6c6f 12120a10 0a07782d7472616365 12050a03616263",
        "1a090a070a0568656c6c6f",
        "22140a120801120e636c69656e742073746f70706564",
    ];
    let mut seed = 1_u32;
    for round in 0..2_000_usize {
        let mut digits: Vec<char> =
            whole[round % whole.len()].chars().filter(|digit| *digit != ' ').collect();
        for _ in 0..=round % 3 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let place = (seed >> 8) as usize % digits.len();
            digits[place] = char::from_digit(seed >> 28, 16).unwrap();
        }
        digits.truncate(digits.len() - round % 5 / 4 * 2);
        wire.send(&digits.into_iter().collect::<String>()).await;
    }
    wire.send("22040a020801").await;
    assert_eq!(harness.say("still here").await.unwrap(), "still here");
    let counters = harness.server.counters();
    assert!(counters.undecodable > 100 && counters.ignored > 100, "{counters:?}");
    harness.until(|counters| counters.open == 0).await;
}

#[tokio::test]
async fn a_call_without_its_request_message() {
    let options = Options { first_message_timeout: Duration::from_millis(50), ..Options::default() };
    let harness = Harness::with(options).await;
    let mut wire = Wire::open(&harness.nats, SAY_HELLO).await;
    wire.send(UNNAMED).await;
    // End with status 4 and a message of 26 bytes.
    assert!(wire.next().await.starts_with("22200a1e0804121a"));
    let mut wire = Wire::open(&harness.nats, SAY_HELLO).await;
    wire.send(UNNAMED).await;
    wire.send("2200").await;
    // End with status 3 and a message of 23 bytes.
    assert!(wire.next().await.starts_with("221d0a1b08031217"));
}
