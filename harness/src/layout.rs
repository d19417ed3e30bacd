//! JSON as a person lays it out: what fits on a line stands on one, in the order in which it was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;

/// Widest line, in characters.
const WIDTH: usize = 100;
/// Columns by which what belongs to something stands behind it.
const INDENT: usize = 2;

/// The value as JSON with lines of at most 100 characters, unless a single word is longer, and a newline at the end.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    let compact = serde_json::to_string(value).expect("what is written has string keys only");
    let node = serde_json::from_str::<Node>(&compact).expect("it was just written");
    let mut text = String::new();
    node.write(0, 0, &mut text);
    text.push('\n');
    text
}

/// A JSON value whose fields keep their order, with its words as they are written.
enum Node {
    Word(String),
    List(Vec<Node>),
    Fields(Vec<(String, Node)>),
}

impl Node {
    /// On one line.
    fn flat(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::List(list) => format!("[{}]", list.iter().map(Self::flat).collect::<Vec<_>>().join(", ")),
            Self::Fields(fields) if fields.is_empty() => "{}".to_owned(),
            Self::Fields(fields) => {
                let fields = fields.iter().map(|(name, inner)| format!("{name}: {}", inner.flat()));
                format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Writes it where `used` columns of the line are taken; what belongs to it is indented by more than `indent`.
    fn write(&self, indent: usize, used: usize, text: &mut String) {
        let flat = self.flat();
        // One column is for the comma behind it. The whole of a file always stands on several lines.
        if matches!(self, Self::Word(_)) || (indent > 0 && used + flat.chars().count() < WIDTH) {
            return text.push_str(&flat);
        }
        let inner = indent + INDENT;
        let line = |text: &mut String, first: bool, name: Option<&str>, node: &Self| {
            text.push_str(if first { "\n" } else { ",\n" });
            text.push_str(&" ".repeat(inner));
            let name = name.map_or_else(String::new, |name| format!("{name}: "));
            text.push_str(&name);
            node.write(inner, inner + name.chars().count(), text);
        };
        let (open, close) = if matches!(self, Self::List(_)) { ('[', ']') } else { ('{', '}') };
        text.push(open);
        match self {
            Self::Word(_) => {}
            Self::List(list) => {
                list.iter().enumerate().for_each(|(index, node)| line(text, index == 0, None, node));
            }
            Self::Fields(fields) => {
                let fields = fields.iter().enumerate();
                fields.for_each(|(index, (name, node))| line(text, index == 0, Some(name), node));
            }
        }
        text.push('\n');
        text.push_str(&" ".repeat(indent));
        text.push(close);
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

fn word(value: &impl Serialize) -> Node {
    Node::Word(serde_json::to_string(value).expect("a plain value"))
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Word("null".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(word(&value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(word(&value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(word(&value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(word(&value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(word(&value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, node)) = map.next_entry::<String, Node>()? {
            fields.push((serde_json::to_string(&name).expect("a text"), node));
        }
        Ok(Node::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_fits_on_a_line_stands_on_one() {
        #[derive(serde::Serialize)]
        struct Ordered {
            zebra: u8,
            ape: Vec<Value>,
            text: String,
            empty: Vec<u8>,
            long: Value,
        }
        let ordered = Ordered {
            zebra: 1,
            ape: vec![json!({"do": "run"}), json!({"do": null})],
            text: "é \"quoted\"\n".to_owned(),
            empty: Vec::new(),
            long: json!([{"node": "a".repeat(50)}, {"node": "b".repeat(50)}, 1.5, {}]),
        };
        let text = to_json(&ordered);
        insta::assert_snapshot!(text, @r#"
        {
          "zebra": 1,
          "ape": [{ "do": "run" }, { "do": null }],
          "text": "é \"quoted\"\n",
          "empty": [],
          "long": [
            { "node": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
            { "node": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" },
            1.5,
            {}
          ]
        }
        "#);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::to_value(&ordered).unwrap());
    }
}
