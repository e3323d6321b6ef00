//! Names of streams, subjects and buckets. Nothing else in the workspace spells one.

/// Relation token of schema messages.
const SCHEMA: &str = "__schema";

/// Relation token of definitions and sequences.
const CATALOG: &str = "__catalog";

/// Longest token that is carried literally, in bytes after escaping; a longer one is replaced by a hash.
pub const MAX_TOKEN: usize = 128;

/// KV bucket of the applied modules.
pub const MODULES_BUCKET: &str = "MODULES";
/// KV bucket of what each service made of a module.
pub const MODULE_STATUS_BUCKET: &str = "MODULE_STATUS";
/// KV bucket in which view-builders announce their replicas.
pub const REPLICAS_BUCKET: &str = "REPLICAS";
/// Stream of the schema sequence counters.
pub const DSID_STREAM: &str = "DSID";
/// Request subject that every service instance answers with its status.
pub const STATUS: &str = "deltamesh.status";

/// Whether a source or replica may have this name: `[a-z0-9_]+`, at most 32 bytes.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.len() <= 32 && name.bytes().all(allowed)
}

/// One subject token for any text: bytes outside `[A-Za-z0-9_-]` become `%XX`, an empty text is `%`, and one longer than
/// [`MAX_TOKEN`] is `%h` and the 64-bit FNV-1a hash of the text in hex.
#[must_use]
pub fn token(text: &str) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push_str(&format!("{byte:02X}"));
        }
    }
    if escaped.len() > MAX_TOKEN { format!("%h{:016x}", fnv1a(text.as_bytes())) } else { escaped }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Stream of a source's change log: `CHANGES_<SOURCE>`.
#[must_use]
pub fn changes_stream(source: &str) -> String {
    format!("CHANGES_{}", source.to_ascii_uppercase())
}

/// Every subject of a source's change log.
#[must_use]
pub fn changes_all(source: &str) -> String {
    format!("changes.{source}.>")
}

/// Subject of a relation's rows.
#[must_use]
pub fn changes(source: &str, relation: &str) -> String {
    format!("changes.{source}.{}", token(relation))
}

/// Subject of a relation's schema messages.
#[must_use]
pub fn changes_schema(source: &str, relation: &str) -> String {
    format!("changes.{source}.{SCHEMA}.{}", token(relation))
}

/// Subject of changes of what a source has besides rows.
#[must_use]
pub fn changes_catalog(source: &str) -> String {
    format!("changes.{source}.{CATALOG}")
}

/// Every schema subject of a source.
#[must_use]
pub fn changes_schema_all(source: &str) -> String {
    format!("changes.{source}.{SCHEMA}.*")
}

/// Subject of a source's schema sequence counter.
#[must_use]
pub fn dsid(source: &str) -> String {
    format!("dsid.{source}")
}

/// Stream of a replica's feeds: `FEED_<REPLICA>`.
#[must_use]
pub fn feed_stream(replica: &str) -> String {
    format!("FEED_{}", replica.to_ascii_uppercase())
}

/// Every feed subject. A replica's stream captures those of its own views.
pub const FEED_ALL: &str = "feed.>";

/// Every subject on which a replica publishes what it cannot on the subjects of its feeds.
#[must_use]
pub fn aside_all(replica: &str) -> String {
    format!("aside.{replica}.>")
}

/// Subject in place of one of a feed that belongs to another replica: `aside.<replica>.<view>.<key tokens>`.
#[must_use]
pub fn aside(replica: &str, feed: &str) -> String {
    format!("aside.{replica}.{}", feed.strip_prefix("feed.").unwrap_or(feed))
}

/// The token of the view in a subject of a feed, or of one that is published aside.
#[must_use]
pub fn view_token(subject: &str) -> Option<&str> {
    let mut tokens = subject.split('.');
    match tokens.next()? {
        "aside" => tokens.nth(1),
        _ => tokens.next(),
    }
}

/// Every subject of one view's feed.
#[must_use]
pub fn feed_view(view: &str) -> String {
    format!("feed.{}.>", token(view))
}

/// Request subject of an operation on a source: `mutate`, `execute`, `fetch` or `reconcile`.
#[must_use]
pub fn source_request(source: &str, operation: &str) -> String {
    format!("source.{source}.{operation}")
}

/// Request subject of an operation on a replica: `view.create`, `view.drop`, `view.list`, `view.explain`, `sql` or `verify`.
#[must_use]
pub fn replica_request(replica: &str, operation: &str) -> String {
    format!("replica.{replica}.{operation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_legal_and_distinct() {
        assert_eq!(token("room-1_A"), "room-1_A");
        assert_eq!(token("a.b c*"), "a%2Eb%20c%2A");
        assert_eq!(token(""), "%");
        assert_eq!(token("é"), "%C3%A9");
        assert_eq!(token(&"x".repeat(128)).len(), 128);
        let long = token(&"x".repeat(129));
        assert!(long.starts_with("%h") && long.len() == 18, "{long}");
        assert_ne!(long, token(&"x".repeat(130)));
    }

    #[test]
    fn names() {
        assert!(is_valid_name("app_1"));
        for bad in ["", "App", "a.b", "a-b", &"x".repeat(33)] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_feed_aside_keeps_its_tokens() {
        let subject = aside("eu", "feed.per_chat.7");
        assert_eq!(subject, "aside.eu.per_chat.7");
        assert_eq!(view_token(&subject), Some("per_chat"));
        assert_eq!(view_token("feed.aside.7"), Some("aside"));
        assert_eq!(aside("eu", &feed_view("a")), "aside.eu.a.>");
    }
}
