//! Where failures are kept: a scenario that replays it, and its trace beside it.
//!
//! A failure is written the moment it is seen, next to its place and then renamed, so that no reader ever sees half a file.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::scenario::{Expect, Found, Scenario};
use crate::trace::Trace;
use crate::verdict::VerdictKind;

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
        Self { candidates, folder: Folder::NotYet, written: BTreeSet::new(), notes: Vec::new() }
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
        self.save_as(&scenario, trace)
    }

    /// Saves a failure as this scenario, and a trace that shows it; else like [`Self::save`].
    pub fn save_as(&mut self, scenario: &Scenario, trace: &Trace) -> Option<Saved> {
        loop {
            let folder = self.folder()?.join(file_name_of(&trace.subject.name));
            match self.save_in(&folder, scenario, trace) {
                Ok(saved) => return Some(saved),
                Err(why) => {
                    self.notes.push(why);
                    self.folder = Folder::NotYet;
                }
            }
        }
    }

    fn save_in(&mut self, folder: &Path, scenario: &Scenario, trace: &Trace) -> Result<Saved, String> {
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
        Ok(saved)
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
    tempfile::Builder::new().prefix(".probe-").tempfile_in(&folder)?;
    Ok(folder)
}

/// Makes a folder that only its owner can enter, and those above it that are missing. One that exists stays as it is.
fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Writes a file that is there whole or not at all. Follows no link.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let result = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if result.is_err() {
        // The error that led here says more than one about the remains.
        let _ = fs::remove_file(&beside);
    }
    result
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
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
