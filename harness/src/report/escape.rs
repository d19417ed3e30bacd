//! Text of others, made harmless for a terminal.
//!
//! What a child wrote, a path or an argument may hold escape sequences that move the cursor, C1 controls that do the same in one
//! character, and marks that reverse the order of what follows. They are shown instead of obeyed.

use std::borrow::Cow;

/// The text with everything that a terminal would obey written as an escape: `\x1b`, `\u{202e}`.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            letter if !is_obeyed(letter) => safe.push(letter),
            letter if (letter as u32) < 0x100 => safe.push_str(&format!("\\x{:02x}", letter as u32)),
            letter => safe.push_str(&letter.escape_unicode().to_string()),
        }
    }
    Cow::Owned(safe)
}

fn is_obeyed(letter: char) -> bool {
    letter.is_control()
        || matches!(letter as u32,
        // Direction marks, embeddings, overrides and isolates.
        0x061c | 0x200e | 0x200f | 0x202a..=0x202e | 0x2066..=0x2069
        // Line and paragraph separators; zero-width characters; tags.
        | 0x2028 | 0x2029 | 0x200b..=0x200d | 0x2060 | 0xfeff | 0xe0000..=0xe007f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        for (text, expected) in [
            ("plain text, ünïcode – 日本", "plain text, ünïcode – 日本"),
            ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
            ("a\u{9b}31mb", "a\\x9b31mb"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("one\ntwo\r\tthree\0\x7f", "one\\ntwo\\r\\tthree\\x00\\x7f"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
        ] {
            assert_eq!(for_terminal(text), expected);
        }
    }

    #[test]
    fn harmless_text_is_not_copied() {
        assert!(matches!(for_terminal("harmless"), Cow::Borrowed(_)));
    }
}
