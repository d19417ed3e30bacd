//! What the marked records in captured output tell of where it is from.

use std::collections::{HashMap, HashSet};

use fake_cli::content::{Mark, Output, read_marked};
use serde::{Deserialize, Serialize};

/// What the marked records ([`fake_cli::content::Content::Marked`]) in captured output tell.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// How many whole records there are of standard output.
    pub stdout: u64,
    /// How many of standard error.
    pub stderr: u64,
    /// The lowest run that any of them is of.
    pub lowest_run: u8,
    /// The highest.
    pub highest_run: u8,
    /// The first that was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Record>,
    /// The first that came after a later one of its node and stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disordered: Option<Record>,
}

/// A record.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of which stream it says that it is.
    pub to: Output,
    /// Of which run and node.
    pub mark: Mark,
    /// Its number.
    pub number: u64,
}

impl Records {
    /// The records in `bytes`; nothing if there is none. What stands between whole records is passed over.
    pub fn in_bytes(bytes: &[u8]) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut numbers: HashMap<(Output, Mark), Numbers> = HashMap::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Some((to, mark, number)) = read_marked(line) else { continue };
            let record = Record { to, mark, number };
            let records = found.get_or_insert(Self {
                stdout: 0,
                stderr: 0,
                lowest_run: mark.run,
                highest_run: mark.run,
                repeated: None,
                disordered: None,
            });
            match to {
                Output::Stdout => records.stdout += 1,
                Output::Stderr => records.stderr += 1,
            }
            records.lowest_run = records.lowest_run.min(mark.run);
            records.highest_run = records.highest_run.max(mark.run);
            match numbers.entry((to, mark)).or_default().take(number) {
                Place::Next => {}
                Place::Again => {
                    records.repeated.get_or_insert(record);
                }
                Place::Late => {
                    records.disordered.get_or_insert(record);
                }
            }
        }
        found
    }
}

/// The numbers of one node and stream that have come.
#[derive(Default)]
struct Numbers {
    /// All numbers below this have come, but for the missing ones.
    next: u64,
    missing: HashSet<u64>,
}

/// The most gaps that are remembered; what fills another one counts as late all the same, and not as there before.
const MOST_MISSING: usize = 1 << 16;

enum Place {
    Next,
    Again,
    Late,
}

impl Numbers {
    fn take(&mut self, number: u64) -> Place {
        if number >= self.next {
            let room = MOST_MISSING.saturating_sub(self.missing.len());
            self.missing.extend((self.next..number).take(room));
            self.next = number + 1;
            Place::Next
        } else if self.missing.remove(&number) || self.missing.len() >= MOST_MISSING {
            Place::Late
        } else {
            Place::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use fake_cli::content::{RECORD, fill_marked};

    use super::*;

    fn record(run: u32, node: &str, to: Output, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; RECORD as usize];
        fill_marked(Mark::of(run, node), to, number * RECORD, &mut bytes);
        bytes
    }

    fn stdout(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| record(1, "root", Output::Stdout, *number)).collect()
    }

    #[test]
    fn a_clean_stream_has_nothing_twice_and_nothing_out_of_order() {
        let two_nodes =
            [record(1, "root", Output::Stdout, 0), record(1, "child", Output::Stdout, 0), stdout(&[1])];
        let records = Records::in_bytes(&two_nodes.concat()).unwrap();
        assert_eq!(
            (records.stdout, records.stderr, records.repeated, records.disordered),
            (3, 0, None, None)
        );
        assert_eq!((records.lowest_run, records.highest_run), (1, 1));
        assert_eq!(Records::in_bytes(b"no records\n"), None);
        assert_eq!(
            Records::in_bytes(&stdout(&[0])[..31]).map(|records| records.stdout),
            Some(1),
            "as a last line"
        );
        assert_eq!(Records::in_bytes(&stdout(&[0])[..30]), None);
    }

    #[test]
    fn what_is_there_twice_is_told_from_what_is_late_and_from_what_is_missing() {
        let of = |numbers: &[u64]| {
            let records = Records::in_bytes(&stdout(numbers)).unwrap();
            (records.repeated.map(|record| record.number), records.disordered.map(|record| record.number))
        };
        assert_eq!(of(&[0, 1, 1, 2]), (Some(1), None));
        assert_eq!(of(&[0, 1, 0, 1, 2]), (Some(0), None));
        assert_eq!(of(&[0, 2, 1, 3]), (None, Some(1)));
        assert_eq!(of(&[0, 2, 1, 1]), (Some(1), Some(1)));
        assert_eq!(of(&[0, 1, 5, 6]), (None, None), "a gap is another rule's");
    }

    #[test]
    fn streams_and_runs_are_counted_apart() {
        let mixed =
            [stdout(&[0]), record(1, "root", Output::Stderr, 0), record(3, "root", Output::Stdout, 0)];
        let records = Records::in_bytes(&mixed.concat()).unwrap();
        assert_eq!((records.stdout, records.stderr, records.lowest_run, records.highest_run), (2, 1, 1, 3));
        assert_eq!(records.repeated, None);
    }
}
