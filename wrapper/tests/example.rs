//! The example `agents`, run as its users would: whatever becomes of it, nothing is left behind. Its source is a part of
//! this program, which is it once more when it is told so.

#[cfg(target_os = "linux")]
#[path = "../examples/agents.rs"]
mod agents;
#[cfg(target_os = "linux")]
#[path = "promises/stray.rs"]
mod stray;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Command, ExitCode, Stdio};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
    use std::time::{Duration, Instant};

    use libtest_mimic::{Arguments, Failed, Trial};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use crate::agents;
    use crate::stray::Stray;

    /// Set for a process that is the example.
    const IS_THE_EXAMPLE: &str = "CHILDMINDER_TEST_IS_THE_EXAMPLE";

    /// How many agents the example plays.
    const AGENTS: usize = 3;

    /// No test waits longer than this for anything.
    const PATIENCE: Duration = Duration::from_secs(20);

    pub(crate) fn main() -> ExitCode {
        if std::env::var_os(IS_THE_EXAMPLE).is_some() {
            return agents::main();
        }
        let trials = vec![
            trial("it_ends_well_when_all_have_answered", ends_well),
            trial("ctrl_c_cleans_up_and_says_so", || stopped_by(Signal::SIGINT)),
            trial("a_polite_request_to_end_cleans_up_too", || stopped_by(Signal::SIGTERM)),
            trial("a_second_ctrl_c_kills_whoever_does_not_listen", hurries),
            trial("on_a_terminal_each_agent_has_a_line_that_is_drawn_over", draws),
            trial("a_panic_leaves_nothing", panics),
            trial("a_kill_leaves_nothing", killed),
        ];
        libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
    }

    fn trial(name: &str, test: fn() -> Result<(), String>) -> Trial {
        Trial::test(name, move || test().map_err(Failed::from))
    }

    /// The example under way, and everybody of whom it has told.
    struct Show {
        process: Child,
        lines: Receiver<std::io::Result<String>>,
        cast: Vec<Stray>,
    }

    impl Drop for Show {
        fn drop(&mut self) {
            // It has ended already unless the test has failed.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    impl Show {
        fn begin(arguments: &[&str]) -> Result<Self, String> {
            let myself = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(myself);
            command.args(arguments).env(IS_THE_EXAMPLE, "1").stdout(Stdio::piped()).stderr(Stdio::null());
            let mut process = command.spawn().map_err(|error| error.to_string())?;
            let stdout = BufReader::new(process.stdout.take().ok_or("no pipe")?);
            // Read elsewhere, because whoever is left behind may hold it for ever.
            let (sender, lines) = channel();
            std::thread::spawn(move || stdout.lines().try_for_each(|line| sender.send(line)));
            Ok(Self { process, lines, cast: Vec::new() })
        }

        /// The next line; whoever is named in it belongs to the cast.
        fn line(&mut self) -> Result<Option<String>, String> {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line.map_err(|error| error.to_string())?,
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => return Err("it says nothing more, and does not end".into()),
            };
            let named = line.split_once("running as ").or_else(|| line.split_once("uses sleep as "));
            if let Some((_, pid)) = named {
                self.cast.push(Stray(pid.trim().parse().map_err(|_| format!("no pid: {line}"))?));
            }
            Ok(Some(line))
        }

        /// Reads until every agent and every tool of it has been named.
        fn hear_of_all(&mut self) -> Result<(), String> {
            while self.cast.len() < 2 * AGENTS {
                self.line()?.ok_or("it ended before all had started")?;
            }
            let gone: Vec<_> = self.cast.iter().map(|stray| stray.0).filter(|pid| !is_alive(*pid)).collect();
            if gone.is_empty() { Ok(()) } else { Err(format!("{gone:?} are not alive")) }
        }

        fn signal(&self, signal: Signal) -> Result<(), String> {
            let pid = i32::try_from(self.process.id()).map_err(|error| error.to_string())?;
            kill(Pid::from_raw(pid), signal).map_err(|error| error.to_string())
        }

        /// Reads what is left, and waits for its end; its exit code, or nothing if a signal ended it.
        fn end(&mut self) -> Result<(Option<i32>, String), String> {
            let mut said = String::new();
            while let Some(line) = self.line()? {
                said.push_str(&line);
                said.push('\n');
            }
            let status = self.process.wait().map_err(|error| error.to_string())?;
            Ok((status.code(), said))
        }

        fn everybody_is_gone(&self) -> Result<(), String> {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let left: Vec<_> =
                    self.cast.iter().map(|stray| stray.0).filter(|pid| is_alive(*pid)).collect();
                if left.is_empty() {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    return Err(format!("{left:?} are still alive"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn is_alive(pid: u32) -> bool {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    }

    fn expect(what: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
        if what { Ok(()) } else { Err(otherwise()) }
    }

    fn ends_well() -> Result<(), String> {
        let mut show = Show::begin(&["--fake", "Say", "hello."])?;
        let (code, said) = show.end()?;
        expect(code == Some(0), || format!("{code:?}: {said}"))?;
        for part in ["status: thinking about: Say hello.", "result: it depends", "Answered after"] {
            let count = said.matches(part).count();
            expect(count == AGENTS, || format!("{part:?} is there {count} times in: {said}"))?;
        }
        expect(show.cast.len() == 2 * AGENTS, || said.clone())?;
        show.everybody_is_gone()
    }

    fn stopped_by(signal: Signal) -> Result<(), String> {
        let mut show = Show::begin(&["--fake", "forever"])?;
        show.hear_of_all()?;
        show.signal(signal)?;
        let (code, said) = show.end()?;
        expect(code == Some(130), || format!("{code:?}: {said}"))?;
        expect(said.matches("1 cleaned up").count() == AGENTS, || said.clone())?;
        show.everybody_is_gone()
    }

    fn hurries() -> Result<(), String> {
        let mut show = Show::begin(&["--fake", "--grace", "3600", "deaf", "forever"])?;
        show.hear_of_all()?;
        show.signal(Signal::SIGINT)?;
        while !show.line()?.ok_or("it ended before it was asked twice")?.contains("cleaning up") {}
        show.signal(Signal::SIGINT)?;
        let (code, said) = show.end()?;
        expect(code == Some(130), || format!("{code:?}: {said}"))?;
        expect(said.matches("again: ").count() == AGENTS, || said.clone())?;
        expect(!said.contains("somebody may be left"), || said.clone())?;
        show.everybody_is_gone()
    }

    /// Runs it on a terminal, and gives what is shown there until it has ended.
    fn shown_on_a_terminal(arguments: &[&str]) -> Result<String, String> {
        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let pty = nix::pty::openpty(None, None).map_err(|error| failed(&error))?;
        let myself = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(myself);
        command.args(arguments).env(IS_THE_EXAMPLE, "1").env("COLUMNS", "100").stderr(Stdio::null());
        let mut process =
            command.stdin(Stdio::null()).stdout(pty.slave).spawn().map_err(|error| failed(&error))?;
        // It has the other end, which ends what is read here when it is closed.
        drop(command);
        let (sender, shown) = channel();
        let mut screen = std::fs::File::from(pty.master);
        std::thread::spawn(move || {
            let mut all = Vec::new();
            // The end of a terminal is an error.
            let _ = screen.read_to_end(&mut all);
            sender.send(all)
        });
        let shown = shown.recv_timeout(PATIENCE).map_err(|error| failed(&error));
        if shown.is_err() {
            let _ = process.kill();
        }
        let status = process.wait().map_err(|error| failed(&error))?;
        let shown = String::from_utf8_lossy(&shown?).into_owned();
        if status.success() { Ok(shown) } else { Err(format!("{status}: {shown}")) }
    }

    fn draws() -> Result<(), String> {
        let shown = shown_on_a_terminal(&["--fake", "Say", "hello."])?;
        // One line for each agent and one for the registry, and the next frame over them.
        let frames: Vec<_> = shown.split("\x1b[4A").collect();
        expect(frames.len() > 2, || format!("{} frames: {shown:?}", frames.len()))?;
        for frame in &frames {
            let lines: Vec<_> = frame.split("\x1b[2K").skip(1).collect();
            let begin = ["ada ", "grace ", "edsger ", "registered: "];
            let fits = lines.len() == begin.len()
                && lines.iter().zip(begin).all(|(line, begin)| line.starts_with(begin))
                && lines.iter().all(|line| line.trim_end().chars().count() <= 100);
            expect(fits, || format!("no frame: {frame:?}"))?;
        }
        let is_live = |frame: &&str| frame.contains(" running ") && frame.contains("registered: 3 process");
        expect(frames.iter().any(is_live), || format!("nobody is seen at work: {shown:?}"))?;
        let last = frames.last().ok_or("no frame")?;
        let is_over = last.matches(" Answered ").count() == AGENTS && last.contains("registered: 0 process");
        expect(is_over, || format!("the last frame is {last:?}"))
    }

    fn panics() -> Result<(), String> {
        let mut show = Show::begin(&["--fake", "--panic", "forever"])?;
        let (code, said) = show.end()?;
        expect(code == Some(101), || format!("{code:?}: {said}"))?;
        expect(show.cast.len() >= AGENTS, || format!("it has told of too few: {said}"))?;
        show.everybody_is_gone()
    }

    fn killed() -> Result<(), String> {
        let mut show = Show::begin(&["--fake", "forever"])?;
        show.hear_of_all()?;
        show.signal(Signal::SIGKILL)?;
        let (code, _) = show.end()?;
        expect(code.is_none(), || format!("{code:?}"))?;
        show.everybody_is_gone()
    }
}
