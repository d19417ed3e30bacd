//! The audit as one JSON document.

use serde::Serialize;

/// The document's text: two spaces, newline at the end.
pub fn render(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("reports have string keys only");
    text.push('\n');
    text
}
