//! The file that is shrunk in its place: each step replaces it, and nothing that it knew is lost to a step that knows less.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::audit::save::{can_be_written, replace_whole};
use crate::failure::{dropped, is_unfinished_over, kept_over};
use crate::scenario::{Refused, Scenario};
use crate::trace::Trace;

/// Most files that are kept of one as it was.
const MOST_AS_GIVEN: usize = 100;

/// A scenario file that is replaced step by step.
pub(super) struct InPlace<'a> {
    named: &'a Path,
    /// Where a link leads to.
    file: PathBuf,
    given: &'a Scenario,
    bytes: Vec<u8>,
    /// What is to stand in it.
    kept: Scenario,
    /// The file as it was, written because a step knows less.
    as_given: Option<PathBuf>,
    /// Why it does not.
    not_written: Option<io::Error>,
}

/// What is to stand in the file at the end.
pub(super) struct Kept {
    pub(super) scenario: Scenario,
    /// Where the file is as it was, if the scenario expects less, or is not shrunk to its end as that was.
    pub(super) as_given: Option<PathBuf>,
    /// Why the last step could not be written.
    pub(super) failed: Option<Failure>,
}

impl<'a> InPlace<'a> {
    /// Of a file that was read as this scenario.
    ///
    /// # Errors
    ///
    /// When files of its folder cannot be replaced.
    pub(super) fn open(named: &'a Path, given: &'a Scenario) -> Result<Self, Failure> {
        let opened = fs::canonicalize(named).and_then(|file| {
            can_be_written(file.parent().unwrap_or(Path::new("/")))?;
            Ok((fs::read(&file)?, file))
        });
        let (bytes, file) = opened.map_err(|error| not_writable(named, &error))?;
        let kept = given.clone();
        Ok(Self { named, file, given, bytes, kept, as_given: None, not_written: None })
    }

    /// Replaces the file, and the trace beside it, which can be read by whoever could read the file. What cannot be written is told at
    /// the end, unless a later step can be.
    pub(super) fn keep(&mut self, found: Scenario, trace: Option<&Trace>) {
        let scenario = kept_over(found, self.given);
        let is_there = self.not_written.is_none() && self.file.with_extension("trace.json").exists();
        if scenario == self.kept && is_there {
            return;
        }
        self.not_written = self.replace(&scenario, trace).err();
        self.kept = scenario;
    }

    /// What is kept now.
    pub(super) fn finish(mut self) -> Kept {
        // Where the last steps were taken back the file itself may expect all of it again.
        let is_needed = self.not_written.is_some() || self.knows_less(&self.kept);
        if let Some(as_given) = self.as_given.take_if(|_| !is_needed) {
            let trace = match fs::remove_file(as_given.with_extension("trace.json")) {
                // The file had none.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
            self.not_written = fs::remove_file(&as_given).and(trace).err();
        }
        let failed = self.not_written.map(|error| not_writable(self.named, &error));
        Kept { scenario: self.kept, as_given: self.as_given, failed }
    }

    fn replace(&mut self, scenario: &Scenario, trace: Option<&Trace>) -> io::Result<()> {
        if self.as_given.is_none() && self.knows_less(scenario) {
            self.as_given = Some(self.put_beside()?);
        }
        if let Some(trace) = trace {
            let trace = serde_json::to_vec(trace).expect("a trace has string keys only");
            replace_whole(&self.file.with_extension("trace.json"), &trace, &self.file)?;
        }
        replace_whole(&self.file, scenario.to_json().as_bytes(), &self.file)
    }

    /// Whether something would be lost with the file as it was.
    fn knows_less(&self, scenario: &Scenario) -> bool {
        !dropped(scenario, self.given).is_empty() || is_unfinished_over(scenario, self.given)
    }

    /// The file as it was, with the trace that it had.
    fn put_beside(&self) -> io::Result<PathBuf> {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let named = |number: usize| match number {
            1 => self.file.with_file_name(format!("{stem}-as-given.json")),
            _ => self.file.with_file_name(format!("{stem}-as-given-{number}.json")),
        };
        let mut names = (1..=MOST_AS_GIVEN).map(named);
        let path = names.find(|path| !path.exists()).ok_or_else(|| {
            io::Error::other(format!("{MOST_AS_GIVEN} files beside it keep it as it was; remove some"))
        })?;
        match fs::read(self.file.with_extension("trace.json")) {
            Ok(trace) => replace_whole(&path.with_extension("trace.json"), &trace, &self.file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        replace_whole(&path, &self.bytes, &self.file)?;
        Ok(path)
    }
}

fn not_writable(file: &Path, error: &io::Error) -> Failure {
    let problem = format!("cannot be written: {error}");
    Refused { file: Some(file.to_owned()), place: String::new(), problem }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::rate::Rate;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::scenario::{Expect, Found};
    use crate::trace::Tier;
    use crate::verdict::VerdictKind;

    /// A failure that was shrunk to its end.
    fn finished() -> Scenario {
        let verdicts = ["S1", "D5"].map(|rule| (rule.to_owned(), VerdictKind::Broken)).into();
        let found = Found {
            rate: Some(Rate { broken: 12, of: 240 }),
            minimal: true,
            matters: vec!["ops[1]".to_owned()],
            ..Found::now("S1", "generated-1-7", Tier::T3)
        };
        Scenario {
            expect: Some(Expect { subject: "tokio".to_owned(), verdicts }),
            found: Some(found),
            ..cancelled_tree().scenario
        }
    }

    /// As it is known after the first replay of a new call.
    fn after_one_replay(of: &Scenario) -> Scenario {
        let verdicts = [("S1".to_owned(), VerdictKind::Broken)].into();
        let found =
            Found { rate: Some(Rate { broken: 1, of: 1 }), ..Found::now("S1", "generated-1-7", Tier::T3) };
        Scenario {
            expect: Some(Expect { subject: "tokio".to_owned(), verdicts }),
            found: Some(found),
            ..of.clone()
        }
    }

    #[test]
    fn a_finished_file_loses_nothing_to_a_call_that_was_interrupted_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let given = finished();
        fs::write(&file, given.to_json()).unwrap();
        let mut place = InPlace::open(&file, &given).ok().unwrap();
        place.keep(after_one_replay(&given), Some(&cancelled_tree()));
        let kept = place.finish();
        assert_eq!((&kept.scenario, kept.as_given), (&given, None));
        assert_eq!(Scenario::read(&file).unwrap(), given);
        assert!(file.with_extension("trace.json").exists());
    }

    #[test]
    fn what_was_shrunk_to_its_end_is_kept_with_its_trace_until_a_simpler_one_is_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let mut given = finished();
        given.expect.as_mut().unwrap().verdicts.remove("D5");
        fs::write(&file, given.to_json()).unwrap();
        fs::write(file.with_extension("trace.json"), "as it was").unwrap();
        let mut simpler = after_one_replay(&given);
        simpler.ops.truncate(2);
        let mut place = InPlace::open(&file, &given).ok().unwrap();
        place.keep(simpler.clone(), Some(&cancelled_tree()));
        let beside = folder.path().join("a-as-given.json");
        assert_eq!(Scenario::read(&beside).unwrap(), given);
        assert_eq!(fs::read(beside.with_extension("trace.json")).unwrap(), b"as it was");
        simpler.found.as_mut().unwrap().minimal = true;
        place.keep(simpler, Some(&cancelled_tree()));
        assert_eq!(place.finish().as_given, None);
        assert!(!beside.exists() && !beside.with_extension("trace.json").exists());
    }

    #[test]
    fn where_less_is_expected_the_file_is_kept_as_it_was_until_that_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let given = finished();
        fs::write(&file, given.to_json()).unwrap();
        fs::write(folder.path().join("a-as-given.json"), "somebody's").unwrap();
        let mut simpler = after_one_replay(&given);
        simpler.ops.truncate(2);
        let mut place = InPlace::open(&file, &given).ok().unwrap();
        place.keep(simpler.clone(), Some(&cancelled_tree()));
        let kept = place.finish();
        let beside = kept.as_given.unwrap();
        assert!(beside.ends_with("a-as-given-2.json"), "{}", beside.display());
        assert_eq!(Scenario::read(&beside).unwrap(), given);
        let now = Scenario::read(&file).unwrap();
        assert_eq!(dropped(&now, &given), ["D5"]);
        assert_eq!(now.found.unwrap().rate, Some(Rate { broken: 1, of: 1 }));
        fs::remove_file(&beside).unwrap();
        let mut place = InPlace::open(&file, &given).ok().unwrap();
        place.keep(simpler, Some(&cancelled_tree()));
        assert!(beside.exists());
        place.keep(after_one_replay(&given), Some(&cancelled_tree()));
        assert_eq!(place.finish().as_given, None);
        assert!(!beside.exists());
    }

    #[test]
    fn a_step_that_could_not_be_written_is_no_failure_if_the_next_could() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let given = finished();
        fs::write(&file, given.to_json()).unwrap();
        let in_the_way = file.with_extension("trace.json");
        fs::create_dir(&in_the_way).unwrap();
        let mut simpler = after_one_replay(&given);
        simpler.ops.truncate(2);
        let mut place = InPlace::open(&file, &given).ok().unwrap();
        place.keep(simpler.clone(), Some(&cancelled_tree()));
        assert!(place.not_written.is_some());
        fs::remove_dir(&in_the_way).unwrap();
        place.keep(simpler, Some(&cancelled_tree()));
        assert!(place.finish().failed.is_none());
        assert_eq!(Scenario::read(&file).unwrap().ops.len(), 2);
    }
}
