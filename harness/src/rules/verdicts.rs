//! Several verdicts as one.

use crate::verdict::{Finding, Verdict};

/// One verdict for several runs, nodes or streams of a case: broken if one is, else unknown if one is, else kept if one is, else
/// the first of the others; where there is none, vacuous with this reason.
pub(super) fn together(
    verdicts: impl IntoIterator<Item = Verdict>,
    otherwise: impl FnOnce() -> String,
) -> Verdict {
    let mut strongest: Option<Verdict> = None;
    for verdict in verdicts {
        strongest = Some(match (strongest.take(), verdict) {
            (None, verdict) => verdict,
            (Some(Verdict::Broken(first)), Verdict::Broken(other)) => Verdict::Broken(both(first, &other)),
            (Some(before), verdict) if rank(&verdict) > rank(&before) => verdict,
            (Some(before), _) => before,
        });
    }
    strongest.unwrap_or_else(|| Verdict::Vacuous(otherwise()))
}

const fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Broken(_) => 3,
        Verdict::Unknown(_) => 2,
        Verdict::Kept => 1,
        Verdict::Vacuous(_) | Verdict::NotRun(_) => 0,
    }
}

/// The first is told, both are counted.
fn both(first: Finding, other: &Finding) -> Finding {
    Finding { count: first.count.saturating_add(other.count), ..first }
}

/// A finding of one.
pub(super) fn broken(sentence: String) -> Verdict {
    Verdict::Broken(Finding { sentence, count: 1 })
}

/// What was found, unless there is a doubt about it.
pub(super) fn broken_unless(doubt: Option<&String>, sentence: String) -> Verdict {
    match doubt {
        Some(doubt) => Verdict::Unknown(format!("{sentence}; but {doubt}")),
        None => broken(sentence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_verdict_decides_and_findings_are_counted() {
        let vacuous = || Verdict::Vacuous("first".to_owned());
        let unknown = || Verdict::Unknown("perhaps".to_owned());
        let all = [vacuous(), Verdict::Kept, unknown(), broken("a".to_owned()), broken("b".to_owned())];
        assert_eq!(together(all[..1].to_vec(), String::new), vacuous());
        assert_eq!(together(all[..2].to_vec(), String::new), Verdict::Kept);
        assert_eq!(together(all[..3].to_vec(), String::new), unknown());
        let Verdict::Broken(finding) = together(all, String::new) else { panic!("not broken") };
        assert_eq!((finding.sentence.as_str(), finding.count), ("a", 2));
        assert_eq!(together([], || "none".to_owned()), Verdict::Vacuous("none".to_owned()));
    }
}
