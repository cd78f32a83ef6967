//! The document that README shows, and the schema that `ctl schema` prints.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use clusterducks_agent::api;
use serde_json::Value;

fn example() -> String {
    let readme = include_str!("../../../README.md");
    let blocks: Vec<&str> = readme.split("```json\n").skip(1).collect();
    let [block] = blocks[..] else { panic!("README has {} examples", blocks.len()) };
    block.split("```").next().unwrap().to_owned()
}

/// What the binary prints, where no agent runs.
fn printed_schema() -> Value {
    #[expect(clippy::disallowed_methods, reason = "the test runs the binary as root does")]
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_clusterducks-agent"))
        .args(["--socket", "/nonexistent/agent.sock", "ctl", "schema"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The places where a document has keys that its schema does not know, or lacks keys that it requires. Of a choice, one form
/// has to fit.
fn misfits(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.strip_prefix('#').unwrap()).unwrap();
        return misfits(root, target, value, path);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(forms) = schema[choice].as_array() {
            let mut tried = forms.iter().map(|form| misfits(root, form, value, path));
            if !tried.any(|misfits| misfits.is_empty()) {
                return vec![format!("{path}: no form fits")];
            }
        }
    }
    let mut found = Vec::new();
    if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
        found.push(format!("{path}: is not {constant}"));
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                found.extend(misfits(root, &schema["items"], item, &format!("{path}[{index}]")));
            }
        }
        Value::Object(keys) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                if !keys.contains_key(required.as_str().unwrap()) {
                    found.push(format!("{path}: lacks {required}"));
                }
            }
            for (key, value) in keys {
                match schema["properties"].get(key) {
                    Some(known) => {
                        found.extend(misfits(root, known, value, &format!("{path}.{key}")));
                    }
                    None if schema["additionalProperties"] == false => {
                        found.push(format!("{path}: has {key}"));
                    }
                    None => {}
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}

#[test]
fn the_example_of_the_readme_is_a_document() {
    let faults = api::read_document(example().as_bytes()).err();
    assert!(faults.is_none(), "{faults:?}");
}

#[test]
fn the_schema_is_printed_without_an_agent_and_fits_the_example() {
    let schema = printed_schema();
    assert_eq!(schema["required"], serde_json::json!(["generation"]));
    let example: Value = serde_json::from_str(&example()).unwrap();
    assert_eq!(misfits(&schema, &schema, &example, "$"), Vec::<String>::new());

    let mut bad = example.clone();
    bad["devices"][0].as_object_mut().unwrap().remove("group");
    bad["volumes"][0]["colour"] = "red".into();
    bad["networks"][0]["dhcp"]["mode"] = "sometimes".into();
    let mut found = misfits(&schema, &schema, &bad, "$");
    found.sort();
    assert_eq!(
        found,
        [
            "$.devices[0]: lacks \"group\"",
            "$.networks[0].dhcp: no form fits",
            "$.volumes[0]: has colour"
        ]
    );
}
