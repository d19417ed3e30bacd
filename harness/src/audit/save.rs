//! Where failures are kept: a scenario that replays it, and its trace beside it.
//!
//! A failure is written the moment it is seen, next to its place and then renamed, so that no reader ever sees half a file.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure;
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
    written: BTreeSet<Saved>,
    /// What each file that it wrote is about.
    about: HashMap<PathBuf, String>,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Candidate {
    At(PathBuf),
    Temporary,
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
        let about = serde_json::to_string(&trace.scenario).expect("a scenario has string keys only");
        self.save_about(&about, &scenario, trace)
    }

    /// Saves a failure that was shrunk as this scenario, in the place of the one saved under this name before, and a trace that shows
    /// it; else like [`Self::save`].
    pub fn save_as(&mut self, scenario: &Scenario, trace: &Trace) -> Option<Saved> {
        self.save_about(&scenario.name, scenario, trace)
    }

    fn save_about(&mut self, about: &str, scenario: &Scenario, trace: &Trace) -> Option<Saved> {
        loop {
            let folder = self.folder()?.join(file_name_of(&trace.subject.name));
            match self.save_in(&folder, about, scenario, trace) {
                Ok(saved) => return Some(saved),
                Err(why) => {
                    self.notes.push(why);
                    self.folder = Folder::NotYet;
                }
            }
        }
    }

    fn save_in(
        &mut self,
        folder: &Path,
        about: &str,
        scenario: &Scenario,
        trace: &Trace,
    ) -> Result<Saved, String> {
        let scenario = self.named_apart(folder, about, scenario);
        let saved = Saved {
            scenario: folder.join(format!("{}.json", scenario.name)),
            trace: folder.join(format!("{}.trace.json", scenario.name)),
        };
        let trace = serde_json::to_vec(trace).expect("a trace has string keys only");
        make_private_folder(folder)
            .and_then(|()| write_whole(&saved.trace, &trace))
            .and_then(|()| write_whole(&saved.scenario, scenario.to_json().as_bytes()))
            .map_err(|error| format!("{} could not be saved: {error}", saved.scenario.display()))?;
        self.written.insert(saved.clone());
        self.about.insert(saved.scenario.clone(), about.to_owned());
        Ok(saved)
    }

    /// The scenario under a name whose file may be written: there is none, it is about the same, or somebody saved there what this
    /// one is simpler than. What `headcount shrink` has reached is not lost to the next audit.
    fn named_apart(&self, folder: &Path, about: &str, scenario: &Scenario) -> Scenario {
        let may_be_written = |scenario: &Scenario| {
            let path = folder.join(format!("{}.json", scenario.name));
            match self.about.get(&path) {
                Some(known) => known == about,
                None => !path.exists() || Scenario::read(&path).is_ok_and(|other| replaces(scenario, &other)),
            }
        };
        let with = |number| Scenario { name: format!("{}-{number}", scenario.name), ..scenario.clone() };
        let beside = (2..=MOST_OF_A_NAME).map(with).filter(|beside| beside.check().is_ok());
        let mut names = std::iter::once(scenario.clone()).chain(beside);
        names.find(|scenario| may_be_written(scenario)).unwrap_or_else(|| scenario.clone())
    }

    /// Removes what was saved since the last call but is not in use: failures that were shown better by a later one.
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

/// Whether a failure says more than another one that was saved under its name.
fn replaces(scenario: &Scenario, other: &Scenario) -> bool {
    let is_minimal = |scenario: &Scenario| scenario.found.as_ref().is_some_and(|found| found.minimal);
    failure::is_simpler(scenario, other)
        || (!failure::is_simpler(other, scenario) && (is_minimal(scenario) || !is_minimal(other)))
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
        // One that is simpler still takes its place.
        let mut simpler = trace.clone();
        simpler.scenario.ops.truncate(1);
        assert_eq!(keeper().save(&simpler, &["S4"]).unwrap(), first);
    }

    #[test]
    fn two_cases_of_one_name_are_two_files_and_one_case_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(Some(folder.path().to_owned()));
        let trace = cancelled_tree();
        let mut other = trace.clone();
        other.scenario.ops.truncate(2);
        let first = keeper.save(&trace, &["S4"]).unwrap();
        let second = keeper.save(&other, &["S1"]).unwrap();
        assert_ne!(first, second);
        assert_eq!(keeper.save(&trace, &["S1"]).unwrap(), first);
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
