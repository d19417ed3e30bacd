//! Where an audit's cases come from and where their traces go: the directed scenarios, then files, then generated ones.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::crew::{Effort, Source};
use crate::generate::{Generator, Shape};
use crate::promises::Promises;
use crate::rules::facts::Facts;
use crate::rules::{Judged, Rule};
use crate::scenario::Scenario;
use crate::subject::{Drive, SubjectSpec};
use crate::trace::{CaseEnd, SubjectInfo, Trace};
use crate::verdict::{Finding, Verdict, VerdictKind};

use super::grade::grade;
use super::save::Keeper;
use super::shrinking::Shown;
use super::tally::{Circumstances, Failure, Origin, Rank, Tally};
use super::twice::Twice;
use super::{Command, Observer, Plan, SubjectReport};

/// What a source draws from.
pub(super) struct Sources<'a> {
    pub(super) plan: &'a Plan,
    pub(super) subject: &'a SubjectSpec,
    pub(super) limits: Option<Limits>,
    pub(super) stop: &'a AtomicBool,
}

/// When a source gives no more.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// No generated scenario is given after this.
    pub(super) deadline: Instant,
    /// No scenario is given after this,
    pub(super) end: Instant,
    /// nor before so much time has passed since the first was asked for.
    pub(super) least: Duration,
}

/// The cases of one subject.
pub(super) struct CaseSource<'a> {
    sources: Sources<'a>,
    keeper: &'a mut Keeper,
    observer: &'a mut dyn Observer,
    fixed: VecDeque<Scenario>,
    fixed_count: u64,
    /// Those of each name: a file may be called as another or as a directed scenario is.
    places: HashMap<String, Vec<Place>>,
    /// The directed ones that came back.
    returned: HashSet<u64>,
    /// Made when the first generated case is due: by then a subject has told what it promises.
    generator: Option<Generator>,
    /// How many scenarios were drawn from it.
    drawn: u64,
    /// How many generated cases were given out, those that are run again included.
    generated: u64,
    twice: Twice,
    tallies: Vec<Tally>,
    info: Option<SubjectInfo>,
    taken: u64,
    cases: u64,
    begun: Instant,
    /// When the first scenario was asked for.
    asked: Option<Instant>,
    lost: Lost,
}

/// What the cases of a subject say together.
pub(super) struct Finished {
    pub(super) report: SubjectReport,
    /// What went wrong on our side.
    pub(super) notes: Vec<String>,
    /// The failures that the report shows.
    pub(super) shown: Vec<Shown>,
}

/// Where a scenario that is not generated stands.
struct Place {
    scenario: Scenario,
    from_file: bool,
    index: u64,
}

/// Cases that the harness lost.
#[derive(Default)]
struct Lost {
    count: u64,
    first: Option<String>,
}

impl<'a> CaseSource<'a> {
    pub(super) fn new(sources: Sources<'a>, keeper: &'a mut Keeper, observer: &'a mut dyn Observer) -> Self {
        let directed = sources.plan.rules.iter().flat_map(|rule| rule.directed().into_iter().enumerate());
        let directed = directed.map(|(round, scenario)| (false, round, scenario));
        let files = sources.plan.scenarios.iter().map(|scenario| (true, usize::MAX, scenario.clone()));
        let mut places: HashMap<String, Vec<Place>> = HashMap::new();
        let mut fixed: Vec<(usize, Scenario)> = Vec::new();
        for (from_file, round, scenario) in directed.chain(files) {
            let of_its_name = places.entry(scenario.name.clone()).or_default();
            // Two rules may share a directed scenario.
            let is_it = |place: &&Place| match from_file {
                true => place.scenario == scenario,
                false => !place.from_file,
            };
            if let Some(known) = of_its_name.iter().find(is_it) {
                let earlier = &mut fixed[known.index as usize].0;
                *earlier = round.min(*earlier);
            } else {
                of_its_name.push(Place { scenario: scenario.clone(), from_file, index: fixed.len() as u64 });
                fixed.push((round, scenario));
            }
        }
        // The time may be short: one of each rule comes before a second of any.
        fixed.sort_by_key(|(round, _)| *round);
        Self {
            fixed_count: fixed.len() as u64,
            fixed: fixed.into_iter().map(|(_, scenario)| scenario).collect(),
            places,
            returned: HashSet::new(),
            generator: None,
            generated: 0,
            drawn: 0,
            twice: Twice::default(),
            tallies: vec![Tally::default(); sources.plan.rules.len()],
            info: None,
            taken: 0,
            cases: 0,
            begun: Instant::now(),
            asked: None,
            lost: Lost::default(),
            sources,
            keeper,
            observer,
        }
    }

    /// What the cases say together. `own` is the harness's processor time for them.
    pub(super) fn finish(self, effort: Effort) -> Finished {
        let subject = self.sources.subject;
        let seconds = self.begun.elapsed().as_secs_f64();
        let promises = self.promises();
        let waived = |rule: &Rule| {
            let mut waivers = self.sources.plan.waived.iter();
            let waiver = waivers.find(|waiver| waiver.subject == subject.name && waiver.rule == rule.id)?;
            Some(waiver.why.clone())
        };
        let untried = self.sources.plan.rules.iter().map(|rule| self.untried(rule)).collect::<Vec<_>>();
        let shown = self.tallies.iter().zip(&self.sources.plan.rules).enumerate();
        let shown = shown.filter_map(|(place, (tally, &rule))| {
            let failure = tally.failure().filter(|_| waived(rule).is_none())?;
            Some(Shown { place, rule, origin: failure.rank.origin, scenario: (*failure.scenario).clone() })
        });
        let shown = shown.collect();
        let rules = self.sources.plan.rules.iter().zip(self.tallies).zip(untried);
        let rules = rules.map(|((rule, tally), untried)| {
            let level = rule.level_for(&promises);
            tally.report(rule, Circumstances { level, waived: waived(rule), untried })
        });
        let rules = rules.collect::<Vec<_>>();
        let notes = self.lost.first.map(|first| {
            format!("{}: the harness lost {} cases; the first: {first}", subject.name, self.lost.count)
        });
        let says_nothing = [VerdictKind::NotRun, VerdictKind::Vacuous];
        let idle = self.cases > 0 && rules.iter().all(|rule| says_nothing.contains(&rule.verdict));
        let idle = idle.then(|| {
            let name = &subject.name;
            format!("{name}: no case came to the point; does it start its child, the fake, at all?")
        });
        let report = SubjectReport {
            name: subject.name.clone(),
            version: self.info.map(|info| info.version).unwrap_or_default(),
            promises,
            grade: grade(&rules).to_string(),
            cases: self.cases,
            seconds,
            lost: self.lost.count,
            harness_share: effort.own_share(),
            repeats: self.twice.report(),
            command: Command::of(subject),
            rules,
        };
        Finished { report, notes: notes.into_iter().chain(idle).collect(), shown }
    }

    fn promises(&self) -> Promises {
        match (&self.info, &self.sources.subject.drive) {
            (Some(info), _) => info.promises,
            (None, Drive::Template { promises, .. }) => *promises,
            (None, _) => Promises::default(),
        }
    }

    /// Whether there is a reason to give no more scenarios, not even those that every audit should run.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        let asked = *self.asked.get_or_insert(now);
        let is_late = |limits: Limits| now >= limits.end.max(asked + limits.least);
        self.sources.stop.load(Ordering::Relaxed) || self.sources.limits.is_some_and(is_late)
    }

    /// How many of a rule's directed scenarios have not come back.
    fn untried(&self, rule: &Rule) -> usize {
        let is_back = |scenario: &Scenario| {
            let mut of_its_name = self.places.get(&scenario.name).into_iter().flatten();
            of_its_name.any(|place| !place.from_file && self.returned.contains(&place.index))
        };
        rule.directed().iter().filter(|scenario| !is_back(scenario)).count()
    }

    fn next_generated(&mut self) -> Option<Scenario> {
        let any_rule_is_judged =
            self.sources.plan.rules.iter().any(|rule| matches!(rule.judged, Judged::Trace { .. }));
        let most = self.sources.plan.cases.unwrap_or(u64::MAX).saturating_sub(self.fixed_count);
        let is_late = self.sources.limits.is_some_and(|limits| Instant::now() >= limits.deadline);
        if !any_rule_is_judged || self.generated >= most || is_late {
            return None;
        }
        self.generated += 1;
        if let Some(again) = self.twice.again() {
            return Some(again);
        }
        let shape = Shape::of(self.sources.subject);
        let shape = self.info.as_ref().map_or(shape, |info| shape.promising(&info.promises));
        let seed = self.sources.plan.seed;
        let generator = self.generator.get_or_insert_with(|| Generator::shaped(seed, shape));
        let scenario = generator.scenario(self.drawn);
        self.drawn += 1;
        self.twice.note(&scenario);
        Some(scenario)
    }

    /// Where a scenario stands, unless it is generated.
    fn place(&self, scenario: &Scenario) -> Option<&Place> {
        self.places.get(&scenario.name)?.iter().find(|place| place.scenario == *scenario)
    }

    /// How well this scenario shows a failure of this rule.
    fn rank(&self, scenario: &Scenario, rule: &str) -> Rank {
        let size = scenario.to_json().len();
        match self.place(scenario) {
            None => Rank { origin: Origin::Generated, size, index: index_of(&scenario.name) },
            Some(place) => {
                let origin = match place.from_file {
                    true => Origin::File,
                    false if scenario.rules.iter().any(|directed| directed == rule) => Origin::Directed,
                    false => Origin::DirectedElsewhere,
                };
                // The catalogue's order says more of them than their size.
                Rank { origin, size: 0, index: place.index }
            }
        }
    }

    /// Judges a trace, saves it if it shows a failure better than what was seen before, and counts.
    fn judge(&mut self, trace: &Trace) {
        let facts = Facts::of(trace);
        let verdicts = self.sources.plan.rules.iter().map(|rule| rule.judge(&facts)).collect::<Vec<_>>();
        let better = self.shows_better(&trace.scenario, &verdicts);
        if !better.is_empty() {
            let broken = verdicts.iter().zip(&self.sources.plan.rules);
            let broken = broken.filter(|(verdict, _)| matches!(verdict, Verdict::Broken(_)));
            let broken = broken.map(|(_, rule)| rule.id).collect::<Vec<_>>();
            let saved = self.keeper.save(trace, &broken);
            for (index, rank, finding) in better {
                let scenario = Box::new(trace.scenario.clone());
                self.tallies[index].show(Failure { rank, scenario, finding, saved: saved.clone() });
            }
        }
        for (tally, verdict) in self.tallies.iter_mut().zip(&verdicts) {
            tally.add(verdict);
        }
    }

    /// The rules that this case shows to be broken better than any case before.
    fn shows_better(&self, scenario: &Scenario, verdicts: &[Verdict]) -> Vec<(usize, Rank, Finding)> {
        let mut better = Vec::new();
        for (index, verdict) in verdicts.iter().enumerate() {
            if let Verdict::Broken(finding) = verdict {
                let rank = self.rank(scenario, self.sources.plan.rules[index].id);
                if self.tallies[index].wants(rank) {
                    better.push((index, rank, finding.clone()));
                }
            }
        }
        better
    }
}

impl Source for CaseSource<'_> {
    fn next(&mut self) -> Option<Scenario> {
        if self.is_over() {
            return None;
        }
        self.fixed.pop_front().or_else(|| self.next_generated())
    }

    fn take(&mut self, trace: Trace) -> bool {
        match &trace.end {
            CaseEnd::OurFault(why) => {
                self.lost.count += 1;
                self.lost.first.get_or_insert_with(|| why.clone());
            }
            CaseEnd::Inapplicable(_) => {}
            CaseEnd::Completed | CaseEnd::HostSilent => {
                self.cases += 1;
                self.info.get_or_insert_with(|| trace.subject.clone());
            }
        }
        let place = self.place(&trace.scenario).map(|place| place.index);
        self.returned.extend(place);
        self.judge(&trace);
        if place.is_none() {
            self.twice.take(&trace);
        }
        self.taken += 1;
        let of = self.sources.plan.cases.map(|most| most.max(self.fixed_count));
        self.observer.case_done(&self.sources.subject.name, self.taken, of);
        !self.is_over()
    }
}

/// The index in the name of a generated scenario.
fn index_of(name: &str) -> u64 {
    name.rsplit('-').next().and_then(|index| index.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::tally::tests::RULES;
    use crate::audit::{RunsCases, Waiver, run};
    use crate::crew::{CrewError, Effort};
    use crate::report::timeline::tests::cancelled_tree;
    use crate::trace::Tier;
    use crate::verdict::VerdictKind;

    /// Answers each scenario with a hand-made trace.
    struct PaperCrew {
        given: Vec<String>,
    }

    impl RunsCases for PaperCrew {
        fn tier(&self) -> Tier {
            Tier::T3
        }

        fn effort(&self) -> Effort {
            Effort::default()
        }

        fn run(&mut self, _subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
            while let Some(scenario) = source.next() {
                self.given.push(scenario.name.clone());
                if !source.take(Trace { scenario, ..cancelled_tree() }) {
                    break;
                }
            }
            Ok(())
        }
    }

    fn subject(name: &str) -> SubjectSpec {
        SubjectSpec { name: name.to_owned(), drive: Drive::Reentry { subject: name.to_owned() } }
    }

    fn plan(cases: u64) -> Plan {
        let text = r#"{"schema": 1, "name": "from-file", "why": "a test", "script": ["hang"], "ops": [{"do": "run"}]}"#;
        Plan {
            subjects: vec![subject("childminder"), subject("tokio")],
            rules: RULES.iter().collect(),
            scenarios: vec![Scenario::from_json(text).unwrap()],
            cases: Some(cases),
            budget: None,
            seed: 9,
            shrink: false,
            waived: vec![Waiver {
                subject: "tokio".to_owned(),
                rule: "P1".to_owned(),
                why: "not asked".to_owned(),
            }],
        }
    }

    #[test]
    fn directed_scenarios_come_first_then_files_then_generated_ones_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut crew = PaperCrew { given: Vec::new() };
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let audit = run(&plan(5), &mut crew, &mut keeper, &mut (), &AtomicBool::new(false));
        let expected = ["plain", "d1-broken", "from-file", "generated-9-0", "generated-9-1"];
        assert_eq!(crew.given, [expected, expected].concat());
        assert_eq!(audit.subjects.iter().map(|subject| subject.cases).collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn a_broken_rule_shows_its_directed_scenario_and_where_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let mut crew = PaperCrew { given: Vec::new() };
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let audit = run(&plan(5), &mut crew, &mut keeper, &mut (), &AtomicBool::new(false));
        let rules = &audit.subjects[0].rules;
        let verdicts = rules.iter().map(|rule| rule.verdict.name()).collect::<Vec<_>>();
        assert_eq!(verdicts, ["broken", "vacuous", "broken", "broken", "not-run"]);
        assert_eq!((rules[0].kept, rules[0].broken, rules[0].rate), (4, 1, Some(0.2)));
        assert_eq!(rules[2].scenario.as_deref(), Some("d1-broken"));
        assert_eq!(rules[2].detail.as_deref(), Some("d1-broken left 2"));
        assert!(rules[2].saved.as_ref().unwrap().scenario.ends_with("d1-broken.json"));
        assert_eq!(audit.subjects[0].grade, "D: S1 leaves 2, D1 broken");
        let waived = &audit.subjects[1].rules[3];
        assert_eq!((waived.verdict, waived.reason.as_deref()), (VerdictKind::NotRun, Some("not asked")));
    }

    #[test]
    fn files_of_one_name_all_run_and_are_ranked_as_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let mut plan = plan(6);
        plan.subjects.truncate(1);
        let file = |name: &str, script: &str| {
            let text = format!(
                r#"{{"schema": 1, "name": "{name}", "why": "a test", "script": [{script}], "ops": [{{"do": "run"}}]}}"#
            );
            Scenario::from_json(&text).unwrap()
        };
        // The first and the second say the same; the next are named as a directed one and as a generated one.
        plan.scenarios = [("a", ""), ("a", ""), ("a", r#""hang""#), ("plain", ""), ("generated-9-0", "")]
            .map(|(name, script)| file(name, script))
            .to_vec();
        let mut crew = PaperCrew { given: Vec::new() };
        run(&plan, &mut crew, &mut keeper, &mut (), &AtomicBool::new(false));
        assert_eq!(crew.given, ["plain", "d1-broken", "a", "a", "plain", "generated-9-0"]);
        let stop = AtomicBool::new(false);
        let sources = Sources { plan: &plan, subject: &plan.subjects[0], limits: None, stop: &stop };
        let mut observer = ();
        let source = CaseSource::new(sources, &mut keeper, &mut observer);
        let origin = |scenario: &Scenario| source.rank(scenario, "S1").origin;
        assert!(plan.scenarios.iter().all(|scenario| origin(scenario) == Origin::File));
        assert_eq!(origin(&plan.rules[0].directed()[0]), Origin::Directed);
        assert_eq!(origin(&Generator::new(9).scenario(0)), Origin::Generated);
    }

    #[test]
    fn past_its_share_of_the_budget_a_subject_gets_its_directed_cases_and_past_the_budget_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let mut plan = plan(50);
        plan.rules.truncate(1);
        plan.budget = Some(Duration::ZERO);
        let mut crew = PaperCrew { given: Vec::new() };
        let audit = run(&plan, &mut crew, &mut keeper, &mut (), &AtomicBool::new(false));
        assert!(crew.given.is_empty());
        assert_eq!(audit.subjects[0].rules[0].verdict, VerdictKind::NotRun);
        let (deadline, end) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        let limits = Some(Limits { deadline, end, least: Duration::ZERO });
        let stop = AtomicBool::new(false);
        let sources = Sources { plan: &plan, subject: &plan.subjects[0], limits, stop: &stop };
        let mut observer = ();
        let mut source = CaseSource::new(sources, &mut keeper, &mut observer);
        assert_eq!(source.next().unwrap().name, "plain");
        assert_eq!(source.next().unwrap().name, "from-file");
        assert_eq!(source.next(), None);
    }

    /// Needs as long as the whole budget for the first case of each subject.
    struct SlowCrew {
        budget: Duration,
        given: Vec<(String, String)>,
    }

    impl RunsCases for SlowCrew {
        fn tier(&self) -> Tier {
            Tier::T3
        }

        fn effort(&self) -> Effort {
            Effort::default()
        }

        fn run(&mut self, subject: &SubjectSpec, source: &mut dyn Source) -> Result<(), CrewError> {
            // As a command's start is measured.
            std::thread::sleep(self.budget);
            while let Some(scenario) = source.next() {
                self.given.push((subject.name.clone(), scenario.name.clone()));
                std::thread::sleep(self.budget);
                if !source.take(Trace { scenario, ..cancelled_tree() }) {
                    break;
                }
            }
            Ok(())
        }
    }

    #[test]
    fn a_subject_has_cases_although_those_before_it_took_all_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let budget = Duration::from_millis(20);
        let plan = Plan { budget: Some(budget), ..plan(50) };
        let mut crew = SlowCrew { budget, given: Vec::new() };
        let audit = run(&plan, &mut crew, &mut keeper, &mut (), &AtomicBool::new(false));
        let given = |subject: &str| (subject.to_owned(), "plain".to_owned());
        assert_eq!(crew.given, [given("childminder"), given("tokio")]);
        assert!(audit.subjects.iter().all(|subject| subject.cases == 1), "{:?}", audit.subjects);
        // The generated ones did not come to the point of a directed one that did not run.
        let untried = &audit.subjects[1].rules[2];
        assert_eq!((untried.id.as_str(), untried.verdict), ("D1", VerdictKind::Unknown));
    }

    #[test]
    fn one_scenario_of_each_rule_comes_before_a_second_of_any_and_the_catalogue_ranks_them() {
        fn named(names: &[&str]) -> Vec<Scenario> {
            let named = |name: &&str| Scenario { name: (*name).to_owned(), ..cancelled_tree().scenario };
            names.iter().map(named).collect()
        }
        fn kept(_: &Facts<'_>) -> Verdict {
            Verdict::Kept
        }
        let directed_at = |directed| Rule { judged: Judged::Trace { judge: kept, directed }, ..RULES[0] };
        let rules: [Rule; 3] = [
            directed_at(|| named(&["a1", "a2", "shared"])),
            directed_at(|| named(&["b1"])),
            directed_at(|| named(&["shared", "c2"])),
        ];
        let mut plan = plan(0);
        plan.rules = rules.map(|rule| &*Box::leak(Box::new(rule))).to_vec();
        let stop = AtomicBool::new(false);
        let sources = Sources { plan: &plan, subject: &plan.subjects[0], limits: None, stop: &stop };
        let (mut keeper, mut observer) = (Keeper::new(None), ());
        let mut source = CaseSource::new(sources, &mut keeper, &mut observer);
        let given = std::iter::from_fn(|| source.next().map(|scenario| scenario.name)).collect::<Vec<_>>();
        assert_eq!(given, ["a1", "shared", "b1", "a2", "c2", "from-file"]);
        let ranked =
            ["a1", "a2", "shared", "b1", "c2"].map(|name| source.rank(&named(&[name])[0], "S1").index);
        assert_eq!(ranked, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_audit_ends_at_once_when_it_is_told_to() {
        let mut crew = PaperCrew { given: Vec::new() };
        let audit = run(&plan(5), &mut crew, &mut Keeper::new(None), &mut (), &AtomicBool::new(true));
        assert!(audit.interrupted && audit.subjects.is_empty() && crew.given.is_empty());
    }

    #[test]
    fn few_cases_do_not_cut_the_directed_ones() {
        let mut crew = PaperCrew { given: Vec::new() };
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        run(&plan(1), &mut crew, &mut keeper, &mut (), &AtomicBool::new(false));
        assert_eq!(crew.given[..3], ["plain", "d1-broken", "from-file"]);
        assert_eq!(crew.given.len(), 6);
    }
}
