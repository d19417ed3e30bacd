//! Where failures are kept: a scenario that replays it, and its trace beside it.
//!
//! A failure is written the moment it is seen, next to its place and then renamed, so that no reader ever sees half a file. Whatever
//! was there before is not touched unless it is the same failure, told by the same case, and it is never removed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{self, is_simpler};
use crate::scenario::{Expect, Found, Scenario};
use crate::trace::Trace;
use crate::verdict::VerdictKind;

/// Most files of one name.
const MOST_OF_A_NAME: usize = 100;

/// Where a failure was saved.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Saved {
    /// The scenario, for `replay`.
    pub scenario: PathBuf,
    /// The trace, for `judge`.
    pub trace: PathBuf,
}

/// Keeps failures in the first folder of a list that can be written.
#[derive(Debug)]
pub struct Keeper {
    /// Where to try next.
    candidates: VecDeque<Candidate>,
    folder: Folder,
    /// What it wrote since the last clearing where nothing was before.
    written: BTreeSet<Saved>,
    /// What each file that it wrote is about.
    about: HashMap<PathBuf, Known>,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Candidate {
    At(PathBuf),
    Temporary,
}

/// How a failure is told from others of its name.
struct About<'a> {
    /// The failure, in this audit.
    key: String,
    /// Whether a file of an earlier audit may be replaced by this one.
    replaces: &'a dyn Fn(&Scenario, &Scenario) -> bool,
}

/// A failure that has a file, and what an earlier audit kept there of the same one.
#[derive(Clone, Debug)]
struct Known {
    key: String,
    before: Option<Box<Scenario>>,
}

#[derive(Debug)]
enum Folder {
    NotYet,
    At(PathBuf),
    Nowhere,
}

impl Keeper {
    /// Keeps failures in the folder asked for, else in the platform's state folder, else in a private temporary folder. No folder
    /// is made before the first failure.
    pub fn new(asked_for: Option<PathBuf>) -> Self {
        let named = asked_for.into_iter().chain(state_folder()).map(Candidate::At);
        let candidates = named.chain([Candidate::Temporary]).collect();
        Self {
            candidates,
            folder: Folder::NotYet,
            written: BTreeSet::new(),
            about: HashMap::new(),
            notes: Vec::new(),
        }
    }

    /// Saves the scenario of a trace, with the rules that it broke as what a replay must find, and the trace. Nothing where it
    /// cannot be written anywhere; each place where it could not is noted.
    pub fn save(&mut self, trace: &Trace, broken: &[&str]) -> Option<Saved> {
        let verdicts = broken.iter().map(|&rule| (rule.to_owned(), VerdictKind::Broken)).collect();
        let found = broken.first().map(|rule| Found::now(rule, &trace.scenario.name, trace.tier));
        // What was found of another rule or subject says nothing of this failure.
        let of_whom = trace.scenario.expect.as_ref().map(|expect| &expect.subject);
        let known =
            trace.scenario.found.clone().filter(|known| {
                broken.contains(&known.rule.as_str()) && of_whom == Some(&trace.subject.name)
            });
        let scenario = Scenario {
            expect: Some(Expect { subject: trace.subject.name.clone(), verdicts }),
            found: known.or(found),
            ..trace.scenario.clone()
        };
        // The same case may break other rules the next time; each file expects what its own trace shows.
        let case = serde_json::to_string(&trace.scenario).expect("a scenario has string keys only");
        let key = format!("{} {case}", broken.join(" "));
        self.save_about(&About { key, replaces: &is_same }, &scenario, trace)
    }

    /// Saves a failure that was shrunk as this scenario, in the place of the one saved under this name before, and a trace that shows
    /// it; else like [`Self::save`].
    pub fn save_as(&mut self, scenario: &Scenario, trace: &Trace) -> Option<Saved> {
        let about = About { key: scenario.name.clone(), replaces: &is_same_and_simpler };
        self.save_about(&about, scenario, trace)
    }

    fn save_about(&mut self, about: &About<'_>, scenario: &Scenario, trace: &Trace) -> Option<Saved> {
        loop {
            let folder = self.folder()?.join(file_name_of(&trace.subject.name));
            match self.save_in(&folder, about, scenario, trace) {
                Ok(saved) => return saved,
                Err(why) => {
                    self.notes.push(why);
                    self.folder = Folder::NotYet;
                }
            }
        }
    }

    /// Nothing where all names are taken.
    fn save_in(
        &mut self,
        folder: &Path,
        about: &About<'_>,
        scenario: &Scenario,
        trace: &Trace,
    ) -> Result<Option<Saved>, String> {
        let Some((scenario, known)) = self.named_apart(folder, about, scenario) else {
            let name = folder.join(&scenario.name);
            let why = format!("{} could not be saved: {MOST_OF_A_NAME} others have its name", name.display());
            self.notes.push(why);
            return Ok(None);
        };
        let saved = saved_as(folder, &scenario.name);
        let scenario = match &known.before {
            Some(before) => failure::kept_over(scenario, before),
            None => scenario,
        };
        let trace = serde_json::to_vec(trace).expect("a trace has string keys only");
        make_private_folder(folder)
            .and_then(|()| write_whole(&saved.trace, &trace))
            .and_then(|()| write_whole(&saved.scenario, scenario.to_json().as_bytes()))
            .map_err(|error| format!("{} could not be saved: {error}", saved.scenario.display()))?;
        if known.before.is_none() {
            self.written.insert(saved.clone());
        }
        self.about.insert(saved.scenario.clone(), known);
        Ok(Some(saved))
    }

    /// The scenario under the first name whose files may be written, because nothing is there or the same failure; nothing where there is
    /// no such name.
    fn named_apart(
        &self,
        folder: &Path,
        about: &About<'_>,
        scenario: &Scenario,
    ) -> Option<(Scenario, Known)> {
        let known = |scenario: &Scenario| {
            let Saved { scenario: file, trace } = saved_as(folder, &scenario.name);
            let goes_over = |before: &Scenario| !failure::is_unfinished_over(scenario, before);
            let before = match self.about.get(&file) {
                Some(known) => {
                    let is_free = known.before.as_deref().is_none_or(goes_over);
                    return (known.key == about.key && is_free).then(|| known.clone());
                }
                None if !file.exists() && !trace.exists() => None,
                None => {
                    let before = Scenario::read(&file).ok()?;
                    let is_free = goes_over(&before) && (about.replaces)(scenario, &before);
                    Some(Box::new(is_free.then_some(before)?))
                }
            };
            Some(Known { key: about.key.clone(), before })
        };
        let with = |number| Scenario { name: format!("{}-{number}", scenario.name), ..scenario.clone() };
        let beside = (2..=MOST_OF_A_NAME).map(with).filter(|beside| beside.check().is_ok());
        let mut names = std::iter::once(scenario.clone()).chain(beside);
        names.find_map(|scenario| known(&scenario).map(|known| (scenario, known)))
    }

    /// Removes what was saved since the last call, where nothing was before, and is not in use: failures that were shown better by a
    /// later one.
    pub fn remove_all_but(&mut self, in_use: &BTreeSet<&Saved>) {
        for saved in std::mem::take(&mut self.written) {
            if !in_use.contains(&saved) {
                // Nothing depends on their being gone.
                let _ = fs::remove_file(&saved.scenario);
                let _ = fs::remove_file(&saved.trace);
            }
        }
    }

    /// What could not be written, and where failures went instead.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// The folder in use; opens it at the first call.
    fn folder(&mut self) -> Option<PathBuf> {
        if matches!(self.folder, Folder::NotYet) {
            self.folder = self.open_folder().map_or(Folder::Nowhere, Folder::At);
        }
        match &self.folder {
            Folder::At(folder) => Some(folder.clone()),
            Folder::NotYet | Folder::Nowhere => None,
        }
    }

    /// The next of the places that can be written.
    fn open_folder(&mut self) -> Option<PathBuf> {
        while let Some(candidate) = self.candidates.pop_front() {
            let (opened, place) = match &candidate {
                Candidate::At(folder) => (open_for_writing(folder), folder.display().to_string()),
                Candidate::Temporary => {
                    let folder = tempfile::Builder::new().prefix("headcount-").tempdir();
                    (folder.map(tempfile::TempDir::keep), "a temporary folder".to_owned())
                }
            };
            match opened {
                Ok(folder) => return Some(folder),
                Err(error) => self.notes.push(format!("failures cannot be saved in {place}: {error}")),
            }
        }
        self.notes.push("failures are not saved".to_owned());
        None
    }
}

fn saved_as(folder: &Path, name: &str) -> Saved {
    Saved { scenario: folder.join(format!("{name}.json")), trace: folder.join(format!("{name}.trace.json")) }
}

/// Whether what was saved before is the same failure: the same case, of the same subject, which broke the same rules.
fn is_same(scenario: &Scenario, before: &Scenario) -> bool {
    is_of_same_case(scenario, before) && failure::does_the_same(scenario, before)
}

/// The same of one that is being shrunk, which no longer does the same: it must not be less simple, nor less certain to be minimal.
/// What `headcount shrink` has reached is not lost to the next audit.
fn is_same_and_simpler(scenario: &Scenario, before: &Scenario) -> bool {
    let is_minimal = |scenario: &Scenario| scenario.found.as_ref().is_some_and(|found| found.minimal);
    is_of_same_case(scenario, before)
        && (is_simpler(scenario, before)
            || (!is_simpler(before, scenario) && (is_minimal(scenario) || !is_minimal(before))))
}

/// Whether two failures expect the same, and were found by cases of one name, which another version may have given to another case.
fn is_of_same_case(scenario: &Scenario, before: &Scenario) -> bool {
    let origin = |scenario: &Scenario| {
        let found = scenario.found.clone()?;
        Some((scenario.expect.clone()?, found.rule, found.case, found.version))
    };
    origin(scenario).is_some() && origin(scenario) == origin(before)
}

/// The platform's folder for state that may be lost.
fn state_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|folder| folder.join("headcount/failures"))
}

/// Makes a folder if it is missing and proves that it can be written.
fn open_for_writing(folder: &Path) -> io::Result<PathBuf> {
    make_private_folder(folder)?;
    let folder = fs::canonicalize(folder)?;
    can_be_written(&folder)?;
    Ok(folder)
}

/// Makes a folder that only its owner can enter, and those above it that are missing. One that exists stays as it is.
fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file that only its owner can read and that is there whole or not at all. Follows no link.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// The same with the mode that the file has, or such as this other file has.
#[cfg(feature = "cli")]
pub(crate) fn replace_whole(path: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    let mode = fs::metadata(path).or_else(|_| fs::metadata(like))?.permissions().mode();
    write_with_mode(path, bytes, mode & 0o777)
}

/// Whether files of a folder can be replaced, before any is.
///
/// # Errors
///
/// Why not.
pub(crate) fn can_be_written(folder: &Path) -> io::Result<()> {
    tempfile::Builder::new().prefix(".probe-").tempfile_in(folder).map(drop)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let result = write_new(&beside, bytes, mode).and_then(|()| fs::rename(&beside, path));
    if result.is_err() {
        // The error that led here says more than one about the remains.
        let _ = fs::remove_file(&beside);
    }
    result
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)
}

/// A subject's name as the name of a folder.
fn file_name_of(subject: &str) -> String {
    let mut name = String::new();
    for letter in subject.chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() || letter == '.' {
            name.push(letter);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "subject".to_owned() } else { name.chars().take(60).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timeline::tests::cancelled_tree;

    #[test]
    fn a_failure_is_a_scenario_that_expects_itself_and_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().join("new/place")));
        let trace = cancelled_tree();
        let saved = keeper.save(&trace, &["S4"]).unwrap();
        let scenario = Scenario::read(&saved.scenario).unwrap();
        let expect = scenario.expect.unwrap();
        assert_eq!(expect.subject, trace.subject.name);
        assert_eq!(expect.verdicts["S4"], VerdictKind::Broken);
        let found = scenario.found.unwrap();
        assert_eq!(
            (found.rule.as_str(), found.case, found.tier),
            ("S4", trace.scenario.name.clone(), trace.tier)
        );
        let text = fs::read_to_string(&saved.trace).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&text).unwrap(), trace);
        let mode = fs::metadata(saved.scenario.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(keeper.take_notes(), Vec::<String>::new());
    }

    #[test]
    fn what_was_found_is_carried_over_for_the_same_rule_and_subject_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        for (subject, broken, expected) in [
            ("childminder", "S4", "an-older-case"),
            ("childminder", "D1", "cancelled"),
            ("another", "S4", "cancelled"),
        ] {
            let mut trace = cancelled_tree();
            trace.scenario.name = "cancelled".to_owned();
            trace.subject.name = subject.to_owned();
            trace.scenario.expect = Some(Expect { subject: "childminder".to_owned(), verdicts: [].into() });
            trace.scenario.found = Some(Found::now("S4", "an-older-case", trace.tier));
            let saved = keeper.save(&trace, &[broken]).unwrap();
            let found = Scenario::read(&saved.scenario).unwrap().found.unwrap();
            assert_eq!((found.rule.as_str(), found.case.as_str()), (broken, expected), "{subject}");
        }
    }

    #[test]
    fn what_was_shrunk_is_not_lost_to_the_next_audit() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = || Keeper::new(Some(folder.path().to_owned()));
        let trace = cancelled_tree();
        let first = keeper().save(&trace, &["S4"]).unwrap();
        // As `headcount shrink` does: simpler, and nothing simpler was found.
        let mut shrunk = Scenario::read(&first.scenario).unwrap();
        shrunk.ops.truncate(2);
        shrunk.found.as_mut().unwrap().minimal = true;
        fs::write(&first.scenario, shrunk.to_json()).unwrap();
        let mut next = keeper();
        let second = next.save(&trace, &["S4"]).unwrap();
        assert_eq!(Scenario::read(&first.scenario).unwrap(), shrunk);
        assert_eq!(Scenario::read(&second.scenario).unwrap().name, format!("{}-2", shrunk.name));
        next.remove_all_but(&BTreeSet::new());
        assert!(first.scenario.exists() && !second.scenario.exists());
        // What the next audit makes of the same case takes its place if it is simpler still and shrunk to the end as well, and not
        // before: a step may be taken back.
        let mut next = keeper();
        let of_the_same = |ops: usize, minimal: bool| {
            let mut scenario = Scenario { found: shrunk.found.clone(), ..shrunk.clone() };
            scenario.found.as_mut().unwrap().minimal = minimal;
            scenario.ops.truncate(ops);
            scenario
        };
        let beside = next.save_as(&of_the_same(2, false), &trace).unwrap();
        assert_ne!(beside, first);
        assert_eq!(next.save_as(&of_the_same(1, false), &trace).unwrap(), beside);
        assert_eq!(Scenario::read(&first.scenario).unwrap(), shrunk);
        assert_eq!(next.save_as(&of_the_same(1, true), &trace).unwrap(), first);
        next.remove_all_but(&BTreeSet::new());
        assert!(first.scenario.exists() && !beside.scenario.exists());
        assert_eq!(Scenario::read(&first.scenario).unwrap().ops.len(), 1);
    }

    #[test]
    fn an_audit_neither_replaces_nor_removes_another_failure_of_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = || Keeper::new(Some(folder.path().to_owned()));
        let mut trace = cancelled_tree();
        let first = keeper().save(&trace, &["S4"]).unwrap();
        let (scenario, shown) = (fs::read(&first.scenario).unwrap(), fs::read(&first.trace).unwrap());
        let mut next = keeper();
        // Another rule; a lighter case of the same name; another subject has a folder of its own.
        let rule = next.save(&trace, &["S1"]).unwrap();
        trace.scenario.ops.truncate(2);
        let case = next.save(&trace, &["S4"]).unwrap();
        assert!(first != rule && first != case && rule != case);
        assert_eq!(fs::read(&first.scenario).unwrap(), scenario);
        assert_eq!(fs::read(&first.trace).unwrap(), shown);
        next.remove_all_but(&BTreeSet::new());
        assert!(first.scenario.exists() && first.trace.exists());
        assert!(!rule.scenario.exists() && !case.scenario.exists());
    }

    #[test]
    fn the_same_failure_of_an_earlier_audit_stays_with_what_was_known_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = || Keeper::new(Some(folder.path().to_owned()));
        let trace = cancelled_tree();
        let first = keeper().save(&trace, &["S4"]).unwrap();
        let mut known = Scenario::read(&first.scenario).unwrap();
        let found = known.found.as_mut().unwrap();
        found.when = "2026-01-31".to_owned();
        found.rate = Some(failure::rate::Rate { broken: 12, of: 240 });
        fs::write(&first.scenario, known.to_json()).unwrap();
        let mut next = keeper();
        assert_eq!(next.save(&trace, &["S4"]).unwrap(), first);
        next.remove_all_but(&BTreeSet::new());
        assert_eq!(Scenario::read(&first.scenario).unwrap(), known);
    }

    #[test]
    fn what_finds_no_name_is_told_and_takes_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let mut trace = cancelled_tree();
        let own = keeper.save(&trace, &["S4"]).unwrap().scenario;
        let name = own.file_stem().unwrap().to_str().unwrap().to_owned();
        for number in 2..=MOST_OF_A_NAME {
            fs::write(own.with_file_name(format!("{name}-{number}.json")), "somebody's").unwrap();
        }
        trace.scenario.ops.truncate(2);
        assert_eq!(keeper.save(&trace, &["S4"]), None);
        let notes = keeper.take_notes();
        assert!(notes.len() == 1 && notes[0].contains("others have its name"), "{notes:?}");
        assert_eq!(fs::read_to_string(own.with_file_name(format!("{name}-100.json"))).unwrap(), "somebody's");
        // Who has a name still has it.
        trace = cancelled_tree();
        assert_eq!(keeper.save(&trace, &["S4"]).unwrap().scenario, own);
    }

    #[test]
    fn two_failures_of_one_name_are_two_files_and_one_failure_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let trace = cancelled_tree();
        let mut other = trace.clone();
        other.scenario.ops.truncate(2);
        let first = keeper.save(&trace, &["S4"]).unwrap();
        let second = keeper.save(&other, &["S1"]).unwrap();
        assert_ne!(first, second);
        assert_eq!(keeper.save(&trace, &["S4"]).unwrap(), first);
        // Run a second time it may break another rule: the file of the first expects what its trace shows.
        let again = keeper.save(&trace, &["S1"]).unwrap();
        assert!(again != first && again != second);
        let expected = |saved: &Saved| Scenario::read(&saved.scenario).unwrap().expect.unwrap().verdicts;
        assert!(expected(&first).contains_key("S4") && !expected(&first).contains_key("S1"));
        let shrunk = Scenario { name: "shrunk".to_owned(), ..trace.scenario.clone() };
        let third = keeper.save_as(&shrunk, &trace).unwrap();
        assert_eq!(keeper.save_as(&Scenario { ops: other.scenario.ops, ..shrunk }, &trace).unwrap(), third);
    }

    #[test]
    fn what_was_shown_better_later_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let mut trace = cancelled_tree();
        let first = keeper.save(&trace, &["S4"]).unwrap();
        trace.scenario.name = "smaller".to_owned();
        let second = keeper.save(&trace, &["S4"]).unwrap();
        keeper.remove_all_but(&BTreeSet::from([&second]));
        assert!(!first.scenario.exists() && !first.trace.exists());
        assert!(second.scenario.exists() && second.trace.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said_and_another_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let mut keeper = Keeper {
            candidates: [file.join("below"), folder.path().join("second")].map(Candidate::At).into(),
            ..Keeper::new(None)
        };
        let saved = keeper.save(&cancelled_tree(), &["S4"]).unwrap();
        assert!(saved.scenario.starts_with(fs::canonicalize(folder.path().join("second")).unwrap()));
        let notes = keeper.take_notes();
        assert!(notes.len() == 1 && notes[0].contains("file/below"), "{notes:?}");
    }

    #[test]
    fn a_folder_that_can_be_written_no_more_is_said_and_another_taken() {
        let folder = tempfile::tempdir().unwrap();
        let places = ["first", "second"].map(|name| folder.path().join(name));
        let candidates = places.clone().map(Candidate::At).into();
        let mut keeper = Keeper { candidates, ..Keeper::new(None) };
        let first = keeper.save(&cancelled_tree(), &["S4"]).unwrap();
        let own = first.scenario.parent().unwrap();
        fs::remove_dir_all(own).unwrap();
        fs::write(own, "no folder any more").unwrap();
        let second = keeper.save(&cancelled_tree(), &["S4"]).unwrap();
        assert!(second.scenario.starts_with(fs::canonicalize(&places[1]).unwrap()) && second.trace.exists());
        let notes = keeper.take_notes();
        assert!(notes.len() == 1 && notes[0].contains("could not be saved"), "{notes:?}");
    }

    #[test]
    fn names_of_subjects_become_names_of_folders() {
        for (subject, expected) in [
            ("childminder", "childminder"),
            ("timeout -k 0.5 0.5 {fake}", "timeout-k-0.5-0.5-fake"),
            ("../../etc", "etc"),
            ("{}", "subject"),
        ] {
            assert_eq!(file_name_of(subject), expected);
        }
    }
}
