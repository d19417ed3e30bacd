//! The program that is started again and again.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// Says which program the children are to be, to the processes that do the work.
const VARIABLE: &str = "CHILDMINDER_BENCH_CHILD";

/// A program that does what its argument says; see `tiny.rs`.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<String>,
}

impl Child {
    /// What the environment says.
    pub(crate) fn that(does: &str) -> Result<Self, Failure> {
        let given = env::var_os(VARIABLE);
        let does = Some(does).filter(|does| !does.is_empty());
        Ok(match given {
            Some(program) => Self { program, arguments: does.into_iter().map(String::from).collect() },
            None => Self {
                program: env::current_exe()?.into(),
                arguments: ["@child"].into_iter().chain(does).map(String::from).collect(),
            },
        })
    }
}

/// Builds the tiny program and says what the children will be. Where it cannot be built they are this very program,
/// which takes several times as long to start: that flatters everybody.
pub(crate) fn provide() -> String {
    match build() {
        Ok(program) => {
            let size = fs::metadata(&program).map_or(0, |metadata| metadata.len());
            process_wide(program.as_os_str());
            format!("a program without libc, {size} bytes")
        }
        Err(why) => format!("this program itself, because the tiny one could not be built: {why}"),
    }
}

fn process_wide(program: &OsStr) {
    *PROGRAM.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(program.to_owned());
}

static PROGRAM: std::sync::Mutex<Option<OsString>> = std::sync::Mutex::new(None);

/// Hands the choice over to a process that does the work.
pub(crate) fn hand_over(command: &mut Command) {
    if let Some(program) = &*PROGRAM.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        command.env(VARIABLE, program);
    }
}

fn build() -> Result<PathBuf, Failure> {
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return Err("not for this architecture".into());
    }
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/beside/tiny.rs"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tiny-{}", process::id()));
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(compiler)
        .args(["--edition", "2024", "-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols"])
        .args(["-C", "relocation-model=static", "-C", "link-arg=-static", "-C", "link-arg=-nostartfiles"])
        .args(["-C", "link-arg=-nostdlib", "-o"])
        .args([&program, source])
        .stdin(Stdio::null())
        .output()?;
    if !built.status.success() {
        return Err(String::from_utf8_lossy(&built.stderr).trim().to_owned().into());
    }
    // A name that stays the same is not built up in the target folder; whoever still runs the old one keeps it.
    let lasting = program.with_file_name("tiny");
    fs::rename(&program, &lasting)?;
    let says = Command::new(&lasting).arg("line").output()?;
    if says.stdout != b"done\n" {
        return Err(format!("it does not work: {says:?}").into());
    }
    Ok(lasting)
}

/// What the tiny program does, where that could not be built.
pub(crate) fn act(does: Option<&str>) -> Result<(), Failure> {
    use std::io::Write;

    let (what, amount) = does.unwrap_or("").split_once(':').unwrap_or((does.unwrap_or(""), "0"));
    let amount: u64 = amount.parse()?;
    let mut stdout = std::io::stdout();
    match what {
        "" => {}
        "line" => stdout.write_all(b"done\n")?,
        "busy" => {
            let end = Instant::now() + Duration::from_millis(amount);
            while Instant::now() < end {}
        }
        "zeros" => {
            let zeros = vec![0; 64 * 1024];
            for _ in 0..amount * 16 {
                stdout.write_all(&zeros)?;
            }
        }
        "hang" => loop {
            std::thread::park();
        },
        other => return Err(format!("a child cannot {other:?}").into()),
    }
    Ok(stdout.flush()?)
}
