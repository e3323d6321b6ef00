use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn check(value: Value, expected: &str) {
    let mut bytes = Vec::new();
    encode(&mut bytes, &value).unwrap();
    assert_eq!(hex(&bytes), expected);
    let mut input = bytes.as_slice();
    assert_eq!(decode(&mut input).unwrap(), value);
    assert!(input.is_empty());
}

#[test]
fn forms_as_genji_writes_them() {
    for (value, expected) in [
        (0, "44"),
        (-1, "43"),
        (127, "C3"),
        (128, "C480"),
        (255, "C4FF"),
        (256, "C50100"),
        (65536, "C600010000"),
        (4_294_967_296, "C70000000100000000"),
        (-32, "24"),
        (-33, "235F"),
        (-128, "2300"),
        (-129, "227F7F"),
        (-32768, "220000"),
        (-32769, "217FFF7FFF"),
        (-2_147_483_649, "207FFFFFFF7FFFFFFF"),
        (i64::MIN, "200000000000000000"),
    ] {
        check(Value::Int(value), expected);
    }
    check(Value::Float(1.0), "D0BFF0000000000000");
    check(Value::Float(-0.5), "D0401FFFFFFFFFFFFF");
    check(Value::from("abc"), "DA03616263");
    check(Value::Array(vec![Value::Int(1), Value::Array(vec![])]), "E60245E600");
    check(Value::Document(vec![("a".into(), Value::Int(1))]), "F001DA016145");
}

#[test]
fn negative_zero_reads_back_as_nan() {
    let mut bytes = Vec::new();
    put_double(&mut bytes, -0.0);
    assert_eq!(hex(&bytes), "D00000000000000000");
    assert_eq!(decode(&mut bytes.as_slice()).unwrap(), Value::Float(f64::from_bits(u64::MAX)));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<i8>().prop_map(|value| Value::Int(value.into())),
        any::<f64>()
            .prop_filter("stored otherwise", |f| !f.is_nan() && f.to_bits() != (-0.0f64).to_bits())
            .prop_map(Value::Float),
        ".{0,9}".prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((".{0,4}", inner), 0..5).prop_map(Value::Document),
        ]
    })
}

proptest! {
    #[test]
    fn round_trip(value in any_value()) {
        let mut bytes = Vec::new();
        encode(&mut bytes, &value).unwrap();
        prop_assert_eq!(decode(&mut bytes.as_slice()).unwrap(), value);
    }

    #[test]
    fn integers_sort_as_bytes(a: i64, b: i64) {
        let encoded = |value| { let mut out = Vec::new(); put_int(&mut out, value); out };
        prop_assert_eq!(a.cmp(&b), encoded(a).cmp(&encoded(b)));
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
        let _ = decode(&mut bytes.as_slice());
    }
}

#[test]
fn deep_nesting_is_refused() {
    let bytes = [0xE6, 0x01].repeat(100_000);
    assert!(decode(&mut bytes.as_slice()).is_err());
}
