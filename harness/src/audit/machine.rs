//! Rules that this machine cannot test, whoever the subject is.

use std::cell::OnceCell;

use super::Waiver;
use crate::rules::Rule;
use crate::run::lacking;
use crate::subject::SubjectSpec;
use crate::trace::Tier;

/// The rules of which every directed scenario needs what this machine lacks, waived for each subject: generated cases, which happen not
/// to need it, must not make them look merely vacuous. Whether system calls can be watched is asked for once, if at all.
pub fn beyond_this_machine(
    subjects: &[SubjectSpec],
    rules: &[&'static Rule],
    tier: Tier,
    can_watch: impl Fn() -> Result<(), String>,
) -> Vec<Waiver> {
    let known = OnceCell::new();
    let can_watch = || known.get_or_init(&can_watch).clone();
    let beyond = rules.iter().filter_map(|rule| {
        let lacks =
            rule.directed().iter().map(|scenario| lacking(scenario, tier, can_watch)).collect::<Vec<_>>();
        let why = lacks.first()?.clone()?;
        lacks.iter().all(Option::is_some).then_some((rule.id, why))
    });
    let of_subject = |(rule, why): (&'static str, String)| {
        subjects.iter().map(move |subject| Waiver {
            subject: subject.name.clone(),
            rule: rule.to_owned(),
            why: why.clone(),
        })
    };
    beyond.flat_map(of_subject).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    fn waived(tier: Tier, can_watch: Result<(), String>) -> Vec<String> {
        let subject = SubjectSpec::here("a");
        let all: Vec<&'static Rule> = rules::all().iter().collect();
        let waived = beyond_this_machine(&[subject], &all, tier, || can_watch.clone());
        assert!(waived.iter().all(|waiver| waiver.subject == "a" && !waiver.why.is_empty()));
        waived.into_iter().map(|waiver| waiver.rule).collect()
    }

    #[test]
    fn only_what_this_machine_cannot_test_at_all_is_waived() {
        let refused = || Err("refused".to_owned());
        let none: [&str; 0] = [];
        assert_eq!(waived(Tier::T3, Ok(())), none);
        assert_eq!(waived(Tier::T1, Ok(())), ["K2"]);
        // S8, K2 and K7 have scenarios that hold nothing.
        assert_eq!(waived(Tier::T3, refused()), ["K1", "K4", "K6", "E5", "P5"]);
        assert_eq!(waived(Tier::T2, refused()), ["K1", "K2", "K4", "K6", "E5", "P5"]);
    }
}
