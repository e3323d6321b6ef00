use std::process::{Command, Output};

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ingest-genji"))
        .args(arguments)
        .env_remove("DELTAMESH_NATS")
        .output()
        .expect("program")
}

#[test]
fn bad_configuration_is_one_sentence_and_64() {
    for arguments in [&[][..], &["--source", "App=genji:x"], &["--source", "app=s3:x"], &["--what"]] {
        let output = program(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{arguments:?}");
    }
}

#[test]
fn the_configuration_is_printed() {
    let output = program(&["--source", "app=genji:/data?mode=host", "--print-config"]);
    let config: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(config["source"]["mode"], "host");
    assert!(program(&["--version"]).status.success());
}
