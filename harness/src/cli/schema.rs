//! `headcount schema`

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Failure, terminal};
use crate::audit::Audit;
use crate::audit::exit::Exit;
use crate::layout;
use crate::scenario::Scenario;
use crate::trace::Trace;

#[derive(Args)]
pub(super) struct Arguments {
    /// Of which format.
    #[arg(value_enum)]
    format: Described,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Described {
    /// Scenario files.
    Scenario,
    /// Traces, as they are saved beside scenarios.
    Trace,
    /// What `headcount audit --format json` prints.
    Audit,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    terminal::print(&layout::to_json(&schema(arguments.format)));
    Ok(Exit::Clean)
}

/// JSON Schema, 2020-12.
fn schema(of: Described) -> Value {
    let schema = match of {
        Described::Scenario => schemars::schema_for!(Scenario),
        Described::Trace => schemars::schema_for!(Trace),
        Described::Audit => schemars::schema_for!(Audit),
    };
    schema.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::generate::Generator;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::rules;

    /// Why a value is not as a schema says: its place and what is wrong there. Knows what our schemas are made of.
    fn mismatch(root: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
        let known = [
            "$ref",
            "$schema",
            "$defs",
            "title",
            "description",
            "type",
            "properties",
            "required",
            "items",
            "anyOf",
            "oneOf",
            "allOf",
            "enum",
            "const",
            "additionalProperties",
            "default",
            "format",
            "minimum",
            "maximum",
            "prefixItems",
            "minItems",
            "maxItems",
            "minLength",
            "maxLength",
            "pattern",
        ];
        let fields = match schema {
            Value::Bool(true) => return None,
            Value::Object(fields) => fields,
            _ => return Some(format!("{place}: nothing is allowed here")),
        };
        if let Some(unknown) = fields.keys().find(|field| !known.contains(&field.as_str())) {
            return Some(format!("{place}: the test does not know {unknown:?}"));
        }
        if let Some(pointer) = schema["$ref"].as_str() {
            let target =
                root.pointer(pointer.trim_start_matches('#')).expect("a reference within the schema");
            if let Some(why) = mismatch(root, target, value, place) {
                return Some(why);
            }
        }
        let is_type = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            _ => false,
        };
        let types = match &schema["type"] {
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|name| is_type(name)) {
            return Some(format!("{place}: {value} is no {types:?}"));
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(value)
        {
            return Some(format!("{place}: {value} is none of {values:?}"));
        }
        if schema.get("const").is_some_and(|only| only != value) {
            return Some(format!("{place}: {value} is not {}", schema["const"]));
        }
        for (kind, one) in [("anyOf", false), ("oneOf", true)] {
            if let Some(choices) = schema[kind].as_array() {
                let fits =
                    choices.iter().filter(|choice| mismatch(root, choice, value, place).is_none()).count();
                if fits == 0 || (one && fits > 1) {
                    return Some(format!("{place}: {value} fits {fits} of the choices"));
                }
            }
        }
        if let Some(all) = schema["allOf"].as_array()
            && let Some(why) = all.iter().find_map(|part| mismatch(root, part, value, place))
        {
            return Some(why);
        }
        if let Some(object) = value.as_object() {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            if let Some(missing) = required.into_iter().find(|name| !object.contains_key(*name)) {
                return Some(format!("{place}: {missing:?} is missing"));
            }
            for (name, inner) in object {
                let place = format!("{place}/{name}");
                let inner_schema =
                    schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                if let Some(why) = inner_schema.and_then(|it| mismatch(root, it, inner, &place)) {
                    return Some(why);
                }
            }
        }
        if let (Some(list), Some(items)) = (value.as_array(), schema.get("items")) {
            let ahead = schema["prefixItems"].as_array().map_or(0, Vec::len);
            let inner = list.iter().enumerate().skip(ahead);
            return inner
                .into_iter()
                .find_map(|(index, inner)| mismatch(root, items, inner, &format!("{place}/{index}")));
        }
        None
    }

    fn scenarios() -> Vec<Scenario> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let stored = std::fs::read_dir(folder).unwrap();
        let stored = stored.map(|entry| Scenario::read(&entry.unwrap().path()).unwrap());
        let generator = Generator::new(3);
        let generated = (0..300).map(|index| generator.scenario(index));
        rules::directed_scenarios().into_iter().chain(stored).chain(generated).collect()
    }

    #[test]
    fn scenarios_and_traces_are_as_their_schemas_say() {
        let (of_scenario, of_trace) = (schema(Described::Scenario), schema(Described::Trace));
        for scenario in scenarios() {
            let value = serde_json::to_value(&scenario).unwrap();
            assert_eq!(mismatch(&of_scenario, &of_scenario, &value, ""), None);
            let trace = serde_json::to_value(Trace { scenario, ..cancelled_tree() }).unwrap();
            assert_eq!(mismatch(&of_trace, &of_trace, &trace, ""), None);
        }
    }

    #[test]
    fn what_is_refused_when_it_is_read_is_not_as_the_schema_says() {
        let of_scenario = schema(Described::Scenario);
        let whole = serde_json::to_value(&scenarios()[0]).unwrap();
        for (pointer, wrong) in [
            ("", serde_json::json!({"schema": 1, "name": "a"})),
            ("/ops/0/do", serde_json::json!("jump")),
            ("/script", serde_json::json!("hang")),
            ("/schema", serde_json::json!("1")),
        ] {
            let mut changed = whole.clone();
            *changed.pointer_mut(pointer).unwrap() = wrong;
            assert!(Scenario::from_json(&changed.to_string()).is_err());
            assert!(mismatch(&of_scenario, &of_scenario, &changed, "").is_some(), "{pointer}");
        }
        let mut changed = whole.clone();
        changed["colour"] = "red".into();
        assert!(mismatch(&of_scenario, &of_scenario, &changed, "").is_some());
    }

    #[test]
    fn each_field_of_a_schema_says_what_it_is() {
        for of in [Described::Scenario, Described::Trace, Described::Audit] {
            let schema = schema(of);
            let fields = schema["properties"].as_object().unwrap();
            let silent = fields
                .iter()
                .filter(|(_, field)| field.get("description").is_none() && field.get("$ref").is_none());
            assert_eq!(silent.map(|(name, _)| name).collect::<BTreeSet<_>>(), BTreeSet::new());
        }
    }
}
