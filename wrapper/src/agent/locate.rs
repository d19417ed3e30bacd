//! Where an agent's program is: where the caller says, where the environment says, in `PATH`, in the usual places.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::dialect::Dialect;
use super::error::AgentError;

/// What of the environment says where programs are.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// The value of the dialect's own variable.
    pub(super) named: Option<OsString>,
    pub(super) path: Option<OsString>,
    pub(super) home: Option<PathBuf>,
}

impl Surroundings {
    pub(super) fn of(dialect: &Dialect) -> Self {
        Self {
            named: dialect.variable.as_ref().and_then(env::var_os),
            path: env::var_os("PATH"),
            home: env::var_os("HOME").map(PathBuf::from),
        }
    }
}

/// What a path leads to.
enum Lies {
    Program,
    /// It is there, and may not be executed; the reason.
    NotExecutable(&'static str),
    Nowhere,
}

/// Finds the program. What the caller or the variable names is taken or refused: another one in its place would be a
/// surprise.
pub(super) fn locate(
    dialect: &Dialect,
    custom: Option<&Path>,
    surroundings: &Surroundings,
) -> Result<PathBuf, AgentError> {
    if let Some(custom) = custom {
        return named(custom, "the path that was given", dialect, surroundings);
    }
    if let (Some(variable), Some(value)) = (&dialect.variable, &surroundings.named) {
        if !value.is_empty() {
            let by = format!("the environment variable {variable}");
            return named(Path::new(value), &by, dialect, surroundings);
        }
    }
    let looked = directories(dialect, surroundings);
    search(&looked, &dialect.programs)?.ok_or_else(|| AgentError::Missing {
        agent: dialect.name.clone(),
        programs: dialect.programs.clone(),
        variable: dialect.variable.clone(),
        looked,
    })
}

/// The first program of these names in these directories. A file that may not be executed is the answer only if there is no
/// program behind it.
fn search(directories: &[PathBuf], names: &[String]) -> Result<Option<PathBuf>, AgentError> {
    let mut refused = None;
    for directory in directories {
        for name in names {
            let candidate = directory.join(name);
            match look(&candidate) {
                Lies::Program => return Ok(Some(candidate)),
                Lies::NotExecutable(why) => refused = refused.or(Some((candidate, why))),
                Lies::Nowhere => {}
            }
        }
    }
    refused.map_or(Ok(None), |(program, why)| Err(AgentError::NotExecutable { program, why }))
}

/// A name without a slash is looked for; a path is taken from here, wherever the agent will be started.
fn named(
    program: &Path,
    by: &str,
    dialect: &Dialect,
    surroundings: &Surroundings,
) -> Result<PathBuf, AgentError> {
    let not_there = || AgentError::NotThere {
        agent: dialect.name.clone(),
        program: program.to_owned(),
        named_by: by.to_owned(),
    };
    if let Some(name) = program.to_str().filter(|name| !name.contains(std::path::is_separator)) {
        let found = search(&directories(dialect, surroundings), &[name.to_owned()])?;
        return found.ok_or_else(not_there);
    }
    let program = std::path::absolute(program).map_err(|_| not_there())?;
    match look(&program) {
        Lies::Program => Ok(program),
        Lies::NotExecutable(why) => Err(AgentError::NotExecutable { program, why }),
        Lies::Nowhere => Err(not_there()),
    }
}

/// Those of `PATH`, then the usual ones. A relative one is left out: what it means depends on where one stands.
fn directories(dialect: &Dialect, surroundings: &Surroundings) -> Vec<PathBuf> {
    let path = surroundings.path.as_ref().map(|path| env::split_paths(path).collect::<Vec<_>>());
    let usual = dialect.places.iter().filter_map(|place| match place.strip_prefix("~/") {
        Some(below) => Some(surroundings.home.as_ref()?.join(below)),
        None => Some(PathBuf::from(place)),
    });
    let mut directories: Vec<PathBuf> = Vec::new();
    for directory in path.unwrap_or_default().into_iter().chain(usual) {
        if directory.is_absolute() && !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

fn look(path: &Path) -> Lies {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Lies::NotExecutable("its directory may not be searched")
        }
        Err(_) => Lies::Nowhere,
        Ok(metadata) if metadata.is_dir() => Lies::NotExecutable("it is a directory"),
        Ok(metadata) if !metadata.is_file() => Lies::NotExecutable("it is no regular file"),
        Ok(_) if !may_be_executed(path) => Lies::NotExecutable("it may not be executed"),
        Ok(_) => Lies::Program,
    }
}

#[cfg(target_os = "linux")]
fn may_be_executed(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The start will tell.
#[cfg(not(target_os = "linux"))]
fn may_be_executed(_: &Path) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A directory that goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("childminder-locate-{}-{number}", std::process::id());
            let place = env::temp_dir().join(name);
            fs::create_dir_all(&place).expect("a directory");
            Self(place)
        }

        fn put(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
            fs::write(&path, "").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
            path
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn dialect() -> Dialect {
        let mut dialect = Dialect::stream_json();
        dialect.programs = vec!["first-name".to_owned(), "second-name".to_owned()];
        dialect.places = vec!["~/.local/bin".to_owned()];
        dialect
    }

    fn in_path(places: &[&Place]) -> Surroundings {
        let path = env::join_paths(places.iter().map(|place| &place.0)).expect("a path");
        Surroundings { path: Some(path), ..Surroundings::default() }
    }

    #[test]
    fn the_given_path_comes_before_the_variable_and_that_before_the_path_and_that_before_the_usual_places() {
        let place = Place::new();
        let given = place.put("given", 0o755);
        let in_variable = place.put("variable", 0o755);
        let in_path = place.put("bin/first-name", 0o755);
        let usual = place.put(".local/bin/first-name", 0o755);
        let mut around = Surroundings {
            named: Some(in_variable.clone().into()),
            path: Some(place.0.join("bin").into()),
            home: Some(place.0.clone()),
        };
        let found = |custom: Option<&Path>, around: &Surroundings| locate(&dialect(), custom, around).ok();
        assert_eq!(found(Some(&given), &around), Some(given.clone()));
        assert_eq!(found(None, &around), Some(in_variable));
        around.named = Some(OsString::new());
        assert_eq!(found(None, &around), Some(in_path.clone()), "an empty variable says nothing");
        fs::remove_file(in_path).expect("our own file");
        assert_eq!(found(None, &around), Some(usual));
    }

    #[test]
    fn a_named_program_that_is_not_there_is_not_replaced_by_another() {
        let place = Place::new();
        place.put("first-name", 0o755);
        let mut around = in_path(&[&place]);
        let missing = place.0.join("missing");
        let error = locate(&dialect(), Some(&missing), &around).expect_err("it is not there");
        assert!(matches!(&error, AgentError::NotThere { program, .. } if *program == missing), "{error}");
        around.named = Some(missing.into());
        let error = locate(&dialect(), None, &around).expect_err("it is not there");
        assert!(error.to_string().contains("AGENT_CLI"), "{error}");
    }

    #[test]
    fn a_file_that_may_not_be_executed_is_passed_over_and_is_the_reason_if_nothing_else_is_found() {
        let (first, second) = (Place::new(), Place::new());
        let plain = first.put("first-name", 0o644);
        let error = locate(&dialect(), None, &in_path(&[&first, &second])).expect_err("no program");
        assert!(matches!(&error, AgentError::NotExecutable { program, .. } if *program == plain), "{error}");
        let program = second.put("second-name", 0o755);
        let found = locate(&dialect(), None, &in_path(&[&first, &second]));
        assert_eq!(found.ok(), Some(program));
    }

    #[test]
    fn whoever_finds_nothing_says_where_it_looked_and_what_to_do() {
        let place = Place::new();
        let error = locate(&dialect(), None, &in_path(&[&place])).expect_err("there is nothing");
        let AgentError::Missing { looked, .. } = &error else { panic!("{error:?}") };
        assert_eq!(looked, std::slice::from_ref(&place.0), "without a home, nothing below it");
        let text = error.to_string();
        for part in ["first-name", "second-name", "AGENT_CLI", &place.0.display().to_string()] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn a_relative_directory_in_the_path_is_left_out() {
        let around = Surroundings { path: Some(":.:bin".into()), ..Surroundings::default() };
        assert_eq!(directories(&dialect(), &around), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_name_without_a_slash_is_looked_for_and_a_path_is_made_absolute() {
        let place = Place::new();
        let program = place.put("only-here", 0o755);
        let around = in_path(&[&place]);
        let found = locate(&dialect(), Some(Path::new("only-here")), &around);
        assert_eq!(found.ok().as_ref(), Some(&program));
        let error = locate(&dialect(), Some(Path::new("nowhere")), &around).expect_err("there is none");
        assert!(matches!(error, AgentError::NotThere { .. }), "{error:?}");
        // The test's own directory is its package's.
        let error = locate(&dialect(), Some(Path::new("./Cargo.toml")), &around).expect_err("no program");
        assert!(
            matches!(&error, AgentError::NotExecutable { program, .. } if program.is_absolute()),
            "{error:?}"
        );
        let error = locate(&dialect(), Some(Path::new("Cargo.toml")), &around).expect_err("not in the path");
        assert!(matches!(error, AgentError::NotThere { .. }), "{error:?}");
    }

    #[test]
    fn a_directory_is_no_program() {
        let place = Place::new();
        let error = locate(&dialect(), Some(&place.0), &Surroundings::default()).expect_err("a directory");
        assert!(error.to_string().contains("directory"), "{error}");
    }
}
