//! Reflection over small descriptor pools.

use bytes::Bytes;
use expect_test::{Expect, expect};
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use protox::file::{File, FileResolver};

use super::{Catalog, MessageRequest, MessageResponse, ReflectionService, ReflectionStream};
use crate::generated::reflection::{ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse};
use crate::status::Code;

const TYPES: &str = r#"
    syntax = "proto2";
    package shop;
    message Item { optional string name = 1; oneof price { int32 cents = 2; } extensions 100 to 199; }
    enum Colour { RED = 0; }
"#;
const SERVICE: &str = r#"
    syntax = "proto2";
    package shop;
    import "types.proto";
    extend Item { optional string note = 101; optional string tag = 100; }
    service Shop { rpc Buy(Item) returns (Item); }
"#;

/// The files of a pool, by name.
struct Files(String);

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        File::from_source(name, if name == "shop.proto" { SERVICE } else { &self.0 })
    }
}

/// Compiles `shop.proto` with its import.
fn pool(types: &str) -> DescriptorPool {
    let mut compiler = protox::Compiler::with_file_resolver(Files(types.to_owned()));
    let files = compiler.include_imports(true).open_file("shop.proto").unwrap().file_descriptor_set();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

fn service(pools: Vec<DescriptorPool>) -> ReflectionService {
    let catalog = Catalog { services: vec!["shop.Shop".to_owned()], pools };
    ReflectionService::new(move || catalog.clone())
}

fn ask(service: &ReflectionService, stream: &mut ReflectionStream, question: MessageRequest) -> String {
    let request = ServerReflectionRequest { host: "here".to_owned(), message_request: Some(question) };
    let answer = service.answer(request.encode_to_vec().into(), stream).unwrap();
    let answer = ServerReflectionResponse::decode(answer).unwrap();
    assert_eq!((answer.valid_host.as_str(), answer.original_request), ("here", Some(request)));
    match answer.message_response.unwrap() {
        MessageResponse::FileDescriptorResponse(files) => {
            let name = |file: Bytes| FileDescriptorProto::decode(file).unwrap().name.unwrap();
            files.file_descriptor_proto.into_iter().map(name).collect::<Vec<_>>().join(" ")
        }
        MessageResponse::AllExtensionNumbersResponse(numbers) => {
            format!("{} {:?}", numbers.base_type_name, numbers.extension_number)
        }
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|service| service.name).collect::<Vec<_>>().join(" ")
        }
        MessageResponse::ErrorResponse(error) => format!("{}: {}", error.error_code, error.error_message),
    }
}

/// The answer to a question that opens its stream.
fn check(question: MessageRequest, expected: &Expect) {
    expected.assert_eq(&ask(&service(vec![pool(TYPES)]), &mut ReflectionStream::default(), question));
}

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.to_owned())
}

#[test]
fn files_come_with_their_imports() {
    check(MessageRequest::FileByFilename("shop.proto".to_owned()), &expect!["shop.proto types.proto"]);
    check(MessageRequest::FileByFilename("none.proto".to_owned()), &expect!["5: file not found: none.proto"]);
}

#[test]
fn every_kind_of_symbol_is_found() {
    for name in ["shop.Item", "shop.Item.name", "shop.Item.price", "shop.Colour", "shop.RED", ".shop.Item"] {
        check(symbol(name), &expect!["types.proto"]);
    }
    for name in ["shop.Shop", "shop.Shop.Buy", "shop.note"] {
        check(symbol(name), &expect!["shop.proto types.proto"]);
    }
    for name in ["shop", "", "shop.Shop.Sell", "shop.Item.other"] {
        let missing = ask(&service(vec![pool(TYPES)]), &mut ReflectionStream::default(), symbol(name));
        assert_eq!(missing, format!("5: symbol not found: {name}"));
    }
}

#[test]
fn extensions() {
    let of = |extension_number| {
        let containing_type = "shop.Item".to_owned();
        MessageRequest::FileContainingExtension(ExtensionRequest { containing_type, extension_number })
    };
    check(of(101), &expect!["shop.proto types.proto"]);
    check(of(102), &expect!["5: extension not found: 102 of shop.Item"]);
    check(of(-1), &expect!["5: extension not found: -1 of shop.Item"]);
    check(
        MessageRequest::AllExtensionNumbersOfType("shop.Item".to_owned()),
        &expect!["shop.Item [100, 101]"],
    );
    check(
        MessageRequest::AllExtensionNumbersOfType("no.Type".to_owned()),
        &expect!["5: message not found: no.Type"],
    );
}

#[test]
fn services_are_listed() {
    check(MessageRequest::ListServices("*".to_owned()), &expect!["shop.Shop"]);
}

#[test]
fn imports_are_sent_once_a_stream() {
    let service = service(vec![pool(TYPES)]);
    let mut stream = ReflectionStream::default();
    assert_eq!(ask(&service, &mut stream, symbol("shop.Item")), "types.proto");
    assert_eq!(ask(&service, &mut stream, symbol("shop.Shop")), "shop.proto");
    assert_eq!(ask(&service, &mut stream, symbol("shop.Shop")), "shop.proto");
}

#[test]
fn files_of_one_name_in_two_pools() {
    let other = pool(&TYPES.replace("message Item {", "message Other {} message Item {"));
    let service = service(vec![pool(TYPES), other]);
    let mut stream = ReflectionStream::default();
    assert_eq!(ask(&service, &mut stream, symbol("shop.Item")), "types.proto");
    assert_eq!(ask(&service, &mut stream, symbol("shop.Other")), "types.proto");
    // From here on the second pool answers: its types.proto has been sent.
    assert_eq!(ask(&service, &mut stream, symbol("shop.Shop")), "shop.proto");
}

#[test]
fn nothing_asked_ends_the_stream() {
    let service = service(Vec::new());
    for request in [Bytes::new(), Bytes::from_static(b"\xff")] {
        let status = service.answer(request, &mut ReflectionStream::default()).unwrap_err();
        assert_eq!(status.code, Code::InvalidArgument);
    }
}
