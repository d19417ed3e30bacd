//! Which rules are asked for.

use crate::rules::Rule;

/// A pattern that fits no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchRule {
    /// The pattern.
    pub pattern: String,
    /// Rules with similar ids.
    pub near: Vec<&'static str>,
}

impl std::fmt::Display for NoSuchRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no rule {:?}", self.pattern)?;
        if self.near.is_empty() {
            f.write_str("; `headcount list` names them all")
        } else {
            write!(f, "; near it are {}", self.near.join(", "))
        }
    }
}

impl std::error::Error for NoSuchRule {}

/// The rules that at least one pattern fits, in the catalogue's order; all of them where there is no pattern. In a pattern `*`
/// stands for any text and `?` for one character; case does not matter.
///
/// # Errors
///
/// The first pattern that fits no rule.
pub fn rules(patterns: &[String], all: &'static [Rule]) -> Result<Vec<&'static Rule>, NoSuchRule> {
    for pattern in patterns {
        if !all.iter().any(|rule| fits(pattern, rule.id)) {
            return Err(NoSuchRule { pattern: pattern.clone(), near: near(pattern, all) });
        }
    }
    let wanted = |rule: &&Rule| patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, rule.id));
    Ok(all.iter().filter(wanted).collect())
}

/// The rule of this id, in whatever case.
///
/// # Errors
///
/// When there is none.
pub fn rule(id: &str, all: &'static [Rule]) -> Result<&'static Rule, NoSuchRule> {
    all.iter()
        .find(|rule| rule.id.eq_ignore_ascii_case(id))
        .ok_or_else(|| NoSuchRule { pattern: id.to_owned(), near: near(id, all) })
}

/// Rules of the same family, or with the same number.
fn near(pattern: &str, all: &'static [Rule]) -> Vec<&'static str> {
    let (family, number) = split(pattern);
    let same_family = all
        .iter()
        .map(|rule| rule.id)
        .filter(|id| !family.is_empty() && split(id).0.eq_ignore_ascii_case(family));
    let found = same_family.collect::<Vec<_>>();
    if !found.is_empty() {
        return found;
    }
    all.iter().map(|rule| rule.id).filter(|id| !number.is_empty() && split(id).1 == number).collect()
}

fn split(id: &str) -> (&str, &str) {
    id.split_at(id.bytes().take_while(u8::is_ascii_alphabetic).count())
}

/// Whether a pattern fits a whole text.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len())
            .filter(|&end| text.is_char_boundary(end))
            .any(|end| fits(&pattern[1..], &text[end..])),
        Some(expected) => text.chars().next().is_some_and(|found| {
            (expected == '?' || expected.eq_ignore_ascii_case(&found))
                && fits(&pattern[expected.len_utf8()..], &text[found.len_utf8()..])
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tally::tests::RULES;

    #[test]
    fn patterns_fit_ids_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("S1", "S1", true),
            ("s1", "S1", true),
            ("S1", "S11", false),
            ("S*", "S11", true),
            ("S?", "S11", false),
            ("S??", "S11", true),
            ("*", "D5", true),
            ("*1", "S11", true),
            ("", "S1", false),
            ("é*", "S1", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_come_in_the_catalogues_order_and_once() {
        let ids = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
            rules(&patterns, &RULES).map(|rules| rules.iter().map(|rule| rule.id).collect::<Vec<_>>())
        };
        assert_eq!(ids(&[]).unwrap(), ["S1", "S3", "D1", "P1", "H9"]);
        assert_eq!(ids(&["D1", "S*", "S1"]).unwrap(), ["S1", "S3", "D1"]);
    }

    #[test]
    fn a_pattern_without_a_rule_names_near_ones() {
        let refused = |id: &str| rule(id, &RULES).err().unwrap().to_string();
        assert_eq!(refused("S99"), "there is no rule \"S99\"; near it are S1, S3");
        assert_eq!(refused("Q1"), "there is no rule \"Q1\"; near it are S1, D1, P1");
        assert!(refused("nonsense").contains("headcount list"));
        assert!(rule("s3", &RULES).is_ok());
    }
}
