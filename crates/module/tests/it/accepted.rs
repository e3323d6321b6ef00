//! Modules that are accepted, and what becomes of them.

use expect_test::{Expect, expect};

use crate::{CHATPB, compile, describe};

fn check(proto: &str, sql: &str, expected: Expect) {
    match compile(proto, sql) {
        Ok(module) => expected.assert_eq(&describe(&module)),
        Err(error) => panic!("refused: {error}"),
    }
}

#[test]
fn chat_without_annotations() {
    check(
        CHATPB,
        "",
        expect![[r#"
        relation message key []
          sender text
          channel document null
          message text
        /chatpb.ChatService/JoinChannel feed of message where ["channel.name = request name always"] Delivery { operation: false, row: false, cursor: false, resume: false }
        /chatpb.ChatService/SendMessage Upsert into message
        message (inferred): -- Fed by JoinChannel of chatpb.ChatService.
        CREATE MATERIALIZED VIEW "message" AS SELECT * FROM "message";
    "#]],
    );
}

#[test]
fn inferred_feed_by_fields_of_the_same_name() {
    check(
        r#"syntax = "proto3"; package p;
        service S { rpc Put(HTTPRoute) returns (Ack); rpc Watch(WatchRequest) returns (stream HTTPRoute); }
        message HTTPRoute { string host = 1; int64 weight = 2; optional string note = 3; }
        message WatchRequest { string host = 1; optional int64 weight = 2; string caller = 3; }
        message Ack {}"#,
        "",
        expect![[r#"
            relation http_route key []
              host text
              weight integer
              note text null
            /p.S/Put Upsert into http_route
            /p.S/Watch feed of http_route where ["host = request host", "weight = request weight"] Delivery { operation: false, row: false, cursor: false, resume: false }
            http_route (inferred): -- Fed by Watch of p.S.
            CREATE MATERIALIZED VIEW "http_route" AS SELECT * FROM "http_route";
        "#]],
    );
}

#[test]
fn inferred_feed_of_a_view_in_sql() {
    check(
        r#"syntax = "proto3"; package p;
        service S { rpc Put(Item) returns (Ack); rpc Watch(Ack) returns (stream Total); }
        message Item { string kind = 1; int64 amount = 2; }
        message Total { string kind = 1; int64 amount = 2; }
        message Ack {}"#,
        "CREATE MATERIALIZED VIEW total AS SELECT kind, SUM(amount) AS amount FROM item GROUP BY kind",
        expect![[r#"
            relation item key []
              kind text
              amount integer
            /p.S/Put Upsert into item
            /p.S/Watch feed of total where [] Delivery { operation: false, row: false, cursor: false, resume: false }
            m.sql: CREATE MATERIALIZED VIEW total AS SELECT kind, SUM(amount) AS amount FROM item GROUP BY kind
        "#]],
    );
}

#[test]
fn every_type() {
    check(
        r#"syntax = "proto3"; package p;
        import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
        import "google/protobuf/struct.proto"; import "google/protobuf/wrappers.proto";
        import "deltamesh/module/v1/options.proto";
        enum Colour { COLOUR_RED = 0; COLOUR_BLUE = 1; }
        message All {
          option (deltamesh.module.v1.relation) = { name: "everything" key: "a" key: "e" unique: "s" index: "i" source: "app" };
          bool b = 1; int32 i = 2; uint64 u = 3; float f = 4; double d = 5; string s = 6; bytes y = 7; Colour e = 8;
          google.protobuf.Timestamp t = 9; google.protobuf.Duration n = 10; google.protobuf.Int64Value w = 11;
          google.protobuf.Struct st = 12; google.protobuf.Value v = 13; google.protobuf.ListValue l = 14;
          Inner m = 15; repeated string r = 16; map<string, int32> p = 17; optional int32 o = 18;
          oneof choice { string x = 19; int64 z = 20; }
          string a = 21;
        }
        message Inner { string k = 1; }"#,
        "",
        expect![[r#"
            relation everything key ["a", "e"]
              b bool
              i integer
              u integer
              f double
              d double
              s text
              y bytes
              e text
              t text null
              n text null
              w integer null
              st document null
              v text null
              l array null
              m document null
              r array
              p document
              o integer null
              x text null
              z integer null
              a text
        "#]],
    );
}

#[test]
fn annotated_methods() {
    check(
        r#"syntax = "proto3"; package p; import "deltamesh/module/v1/options.proto";
        message Note {
          option (deltamesh.module.v1.relation).key = "id";
          string id = 1; string topic = 2; optional string text = 3;
        }
        message NoteId { string id = 1; }
        message Topic { string name = 1; }
        message Watch { Topic topic = 1; string cursor = 2; optional string id = 3; }
        message Event { string operation = 1; Note row = 2; string cursor = 3; }
        message Find { string word = 1; int32 most = 2; }
        message Found { repeated Note notes = 1; }
        message Ack { string status = 1; }
        service S {
          rpc PutNote(Note) returns (Ack) { option (deltamesh.module.v1.method).mutation = {}; }
          rpc EditNote(Note) returns (Ack) { option (deltamesh.module.v1.method).mutation = { relation: "note" kind: KIND_UPDATE }; }
          rpc DropNote(NoteId) returns (Ack) { option (deltamesh.module.v1.method).mutation = { relation: "note" kind: KIND_DELETE }; }
          rpc WatchTopic(Watch) returns (stream Event) {
            option (deltamesh.module.v1.method).feed = { view: "note" where: "topic.name = topic" };
          }
          rpc FindNotes(Find) returns (Found) {
            option (deltamesh.module.v1.method).query.sql = "SELECT * FROM note WHERE text LIKE :word LIMIT :most";
          }
          rpc SendNotes(stream Note) returns (Ack);
        }"#,
        "",
        expect![[r#"
            relation note key ["id"]
              id text
              topic text
              text text null
            /p.S/PutNote Upsert into note
            /p.S/EditNote Update into note
            /p.S/DropNote Delete into note
            /p.S/WatchTopic feed of note where ["topic = request topic.name", "id = request id"] Delivery { operation: true, row: true, cursor: true, resume: true }
            /p.S/FindNotes query "SELECT * FROM note WHERE text LIKE ?1 LIMIT ?2" ["word", "most"] rows Some("notes")
            /p.S/SendNotes Upsert into note
            note (inferred): -- Fed by WatchTopic of p.S.
            CREATE MATERIALIZED VIEW "note" AS SELECT * FROM "note";
        "#]],
    );
}

#[test]
fn kept_form_compiles_to_the_same() {
    let module = compile(CHATPB, "CREATE MATERIALIZED VIEW v AS SELECT sender FROM message").unwrap();
    let kept = module.to_wire(3);
    assert_eq!((kept.version, kept.protos.len(), kept.sql.len()), (3, 1, 2));
    assert_eq!(describe(&deltamesh_module::ModuleDefinition::from_wire(&kept).unwrap()), describe(&module));
}

#[test]
fn the_chat_module() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../modules/chat");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    check(
        &read("chat.proto"),
        "",
        expect![[r#"
        relation user key ["user_id"]
          user_id text
          login text
        relation chat key ["chat_id"]
          chat_id text
          title text
        relation user_chat key ["user_id", "chat_id"]
          user_id text
          chat_id text
          joined_at text null
        relation chat_message key ["chat_message_id"]
          chat_message_id text
          chat_id text
          user_id text
          body text
          sent_at text null
        /chat.v1.ChatService/PutUser Upsert into user
        /chat.v1.ChatService/PutChat Upsert into chat
        /chat.v1.ChatService/JoinChat Upsert into user_chat
        /chat.v1.ChatService/LeaveChat Delete into user_chat
        /chat.v1.ChatService/PostMessage Upsert into chat_message
        /chat.v1.ChatService/SendMessage Upsert into chat_message
        /chat.v1.ChatService/DeleteMessage Delete into chat_message
        /chat.v1.ChatService/WatchChat feed of chat_feed where ["chat_id = request chat_id"] Delivery { operation: true, row: true, cursor: true, resume: true }
        /chat.v1.ChatService/WatchChats feed of user_chats where ["user_id = request user_id"] Delivery { operation: true, row: true, cursor: true, resume: true }
        /chat.v1.ChatService/WatchCounts feed of chat_counts where ["chat_id = request chat_id"] Delivery { operation: true, row: true, cursor: true, resume: true }
        /chat.v1.ChatService/ListMessages query "SELECT * FROM chat_feed WHERE chat_id = ?1 ORDER BY sent_at DESC, chat_message_id DESC LIMIT ?2" ["chat_id", "limit"] rows Some("messages")
    "#]],
    );
}
