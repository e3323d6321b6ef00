//! Envelopes as the Go library puts them on the wire.

use bytes::Bytes;

use super::{
    Frame, RequestKind, ResponseKind, begin, call, cancel, decode_request, decode_response, end, half_close,
};
use crate::metadata::Metadata;
use crate::status::{Code, Status};

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect::<Vec<_>>()
        .into()
}

#[track_caller]
fn check(encoded: &Bytes, expected: &str) {
    assert_eq!(encoded, &bytes(expected), "got {encoded:02x?}");
}

#[test]
fn unary_call() {
    check(
        &call("/echo.Echo/SayHello", Metadata::new(), ""),
        "12150a132f6563686f2e4563686f2f53617948656c6c6f",
    );
    check(
        &call("/echo.Echo/SayHello", Metadata::new().with("x-trace", "abc"), ""),
        "1229 0a132f6563686f2e4563686f2f53617948656c6c6f 12120a10 0a07782d7472616365 12050a03616263",
    );
}

#[test]
fn streaming_call_carries_the_node_id() {
    let encoded = "123f0a296e7270632e6e6f6465312e6368617470622e43686174536572766963652e4a6f696e4368616e6e656c
                   1a12636f6e666f726d616e63652d636c69656e74";
    check(&call("nrpc.node1.chatpb.ChatService.JoinChannel", Metadata::new(), "conformance-client"), encoded);
    let Some(RequestKind::Call(call)) = decode_request(bytes(encoded)).unwrap() else { panic!("not a Call") };
    assert_eq!(call.nid, "conformance-client");
    assert_eq!(call.metadata, None);
}

#[test]
fn data_is_one_unframed_message() {
    let frame = Frame::new(&bytes("0a0568656c6c6f"));
    check(&frame.envelope(), "1a090a070a0568656c6c6f");
    check(&frame.payload(), "0a0568656c6c6f");
    let Some(RequestKind::Data(data)) = decode_request(frame.envelope()).unwrap() else { panic!("not Data") };
    check(&data.data, "0a0568656c6c6f");
}

#[test]
fn an_empty_message_is_data_without_bytes() {
    check(&Frame::new(&[]).envelope(), "1a00");
    check(&Frame::new(&[]).payload(), "");
    let Some(ResponseKind::Data(data)) = decode_response(bytes("1a00")).unwrap() else { panic!("not Data") };
    check(&data.data, "");
}

#[test]
fn lengths_above_one_byte() {
    for length in [1, 124, 125, 126, 127, 128, 129, 300, 16_381, 16_384, 70_000] {
        let frame = Frame::new(&vec![7; length]);
        let Some(ResponseKind::Data(data)) = decode_response(frame.envelope()).unwrap() else {
            panic!("{length}")
        };
        assert_eq!(data.data.len(), length);
        assert_eq!(frame.payload(), data.data);
    }
}

#[test]
fn begin_names_the_server() {
    check(
        &begin(Metadata::new().with("echo-x-trace", "abc"), "node1"),
        "1220 0a170a15 0a0c6563686f2d782d7472616365 12050a03616263 12056e6f646531",
    );
}

#[test]
fn success_has_no_status() {
    check(&end(None, Metadata::new()), "2200");
    check(&half_close(), "2200");
    check(
        &end(None, Metadata::new().with("x-trailer", "t")),
        "2214 12120a10 0a09782d747261696c6572 12030a0174",
    );
}

#[test]
fn failure_carries_code_message_and_details() {
    check(
        &end(Some(&Status::new(Code::Unimplemented, "Unimplemented")), Metadata::new()),
        "22130a11080c120d556e696d706c656d656e746564",
    );
    let failed = "227e 0a68 0805 1213726571756573746564206661696c7572652035
        1a4f 0a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e4572726f72496e666f
        1223 0a09524551554553544544 120b636f6e666f726d616e6365 1a090a04636f6465120135
        1212 0a10 0a09782d747261696c6572 12030a0174";
    let Some(ResponseKind::End(decoded)) = decode_response(bytes(failed)).unwrap() else { panic!("not End") };
    let status = Status::from_wire(decoded.status.unwrap());
    assert_eq!((status.code, status.message.as_str()), (Code::NotFound, "requested failure 5"));
    assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    check(&end(Some(&status), Metadata::from_wire(decoded.trailer)), failed);
}

#[test]
fn an_ok_status_is_never_sent() {
    let sent = end(Some(&Status::new(Code::Ok, "")), Metadata::new());
    check(&sent, "22040a020802");
}

#[test]
fn cancellation_is_an_end_with_status() {
    let hex = "22140a120801120e636c69656e742073746f70706564";
    check(&cancel(&Status::new(Code::Cancelled, "client stopped")), hex);
    let Some(RequestKind::End(decoded)) = decode_request(bytes(hex)).unwrap() else { panic!("not End") };
    assert_eq!(decoded.status.unwrap().code, 1);
}

#[test]
fn repeated_fields_and_unknown_members() {
    // A Data envelope that repeats its field: the last one counts, as in any protobuf decoder.
    let Some(RequestKind::Data(data)) = decode_request(bytes("1a06 0a0161 0a0162")).unwrap() else {
        panic!()
    };
    check(&data.data, "62");
    assert_eq!(decode_request(Bytes::new()).unwrap(), None);
    assert_eq!(decode_request(bytes("0a00")).unwrap(), None);
    assert_eq!(decode_response(bytes("2a021234")).unwrap(), None);
    assert!(decode_response(bytes("1aff")).is_err());
}
