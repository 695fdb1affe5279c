//! The published JSON Schemas, against which the tests check what is written.

use jsonschema::Validator;
use serde_json::Value;

/// A published schema.
pub struct Schema {
    /// The schema as it is published.
    pub published: Value,
    strict: Validator,
}

impl Schema {
    /// Reads a schema, and checks it against the meta-schema that it names.
    pub fn new(text: &str) -> Schema {
        let published: Value = serde_json::from_str(text).unwrap();
        if let Err(error) = jsonschema::meta::validate(&published) {
            panic!("the schema itself is wrong at {}: {error}", error.instance_path());
        }
        let mut strict = published.clone();
        forbid_unknown_keys(&mut strict);
        let strict = jsonschema::validator_for(&strict).unwrap();
        Schema { published, strict }
    }

    /// Checks that `value` fits, and has no key beyond those that the schema names; readers must allow for more.
    pub fn check(&self, value: &Value) {
        let errors: Vec<String> = self
            .strict
            .iter_errors(value)
            .map(|error| format!("at {}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
    }
}

fn forbid_unknown_keys(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            if keywords.contains_key("properties") && !keywords.contains_key("additionalProperties") {
                keywords.insert("additionalProperties".into(), false.into());
            }
            keywords.values_mut().for_each(forbid_unknown_keys);
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(forbid_unknown_keys),
        _ => {}
    }
}

#[test]
fn a_schema_is_checked_itself_and_finds_each_fault() {
    let schema = Schema::new(include_str!("../../../docs/stat.schema.json"));
    let fault = |value: Value| {
        let errors: Vec<_> = schema.strict.iter_errors(&value).map(|error| error.to_string()).collect();
        errors.join("; ")
    };
    let error = fault(serde_json::json!({"version": 2, "rows": [{"count": -1}], "surprise": 1}));
    for part in
        ["1 was expected", "\"vcpus\" is a required property", "-1 is less than", "'surprise' was unexpected"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let wrong = std::panic::catch_unwind(|| {
        Schema::new(
            r#"{"type": "integre", "$schema":
        "https://json-schema.org/draft/2020-12/schema"}"#,
        )
    });
    assert!(wrong.is_err());
}
