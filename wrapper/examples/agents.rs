//! Runs several command-line agents at once and shows what they say, where they stand and what they use, live.
//!
//! ```sh
//! cargo run -p childminder --features agent --example agents -- "What is in this directory?"
//! ```
//!
//! Those agents that are installed are asked; if there is none, or with `--fake`, some are played by this program itself,
//! each with a tool of its own in a session of its own. Nothing of it is left behind, however the program ends: Ctrl-C
//! cleans up and says so, a second one does not wait for the grace, a panic (`--panic` has one) and a SIGKILL need no help of anybody.
//!
//! On a terminal there is one line for each agent, drawn again and again; elsewhere each message is a line.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use childminder::Minder;
use childminder::agent::{Agent, AgentBuilder, Dialect, ExecutionReport, Message, MessageKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Set for a process that plays an agent.
const PLAYS: &str = "CHILDMINDER_EXAMPLE_PLAYS_AN_AGENT";

/// How often the lines of a terminal are drawn.
const FRAME: Duration = Duration::from_millis(100);

/// What a shell says of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

const USAGE: &str = "usage: agents [--fake] [--panic] [--grace SECONDS] [PROMPT…]";

pub(crate) fn main() -> ExitCode {
    if std::env::var_os(PLAYS).is_some() {
        return play();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shown = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(show()));
    shown.unwrap_or_else(|error| {
        eprintln!("agents: {error}");
        ExitCode::FAILURE
    })
}

/// What was asked for on the command line.
struct Asked {
    fake: bool,
    panic: bool,
    /// How long an agent has to end when it is asked to.
    grace: Duration,
    prompt: String,
}

impl Asked {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let grace = Duration::from_secs(2);
        let mut asked = Self { fake: false, panic: false, grace, prompt: String::new() };
        let mut words = Vec::new();
        while let Some(argument) = arguments.next() {
            match &argument[..] {
                "--grace" => {
                    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                    asked.grace = Duration::from_secs(seconds.ok_or(USAGE)?);
                }
                "--fake" => asked.fake = true,
                "--panic" => asked.panic = true,
                option if option.starts_with("--") => return Err(format!("{option} is unknown; {USAGE}")),
                _ => words.push(argument),
            }
        }
        asked.prompt = if words.is_empty() { "Say hello.".into() } else { words.join(" ") };
        Ok(asked)
    }
}

/// A way to ask a program of today for its messages: its name, its arguments, its dialect. The prompt goes to its stdin.
type Known = (&'static str, &'static [&'static str], fn() -> Dialect);

const KNOWN: [Known; 3] = [
    ("claude", &["-p", "--output-format", "stream-json", "--verbose"], Dialect::stream_json),
    ("codex", &["exec", "-"], Dialect::plain_text),
    ("gemini", &[], Dialect::plain_text),
];

/// Each agent that is asked, by the name that is shown.
fn agents(asked: &Asked) -> std::io::Result<Vec<(String, Agent)>> {
    let mut agents = Vec::new();
    for (name, arguments, dialect) in KNOWN.into_iter().filter(|_| !asked.fake) {
        let mut dialect = dialect();
        dialect.programs = vec![name.to_owned()];
        dialect.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let agent = limited(Agent::builder(dialect), asked).build();
        if agent.locate().is_ok() {
            agents.push((name.to_owned(), agent));
        }
    }
    if agents.is_empty() {
        let myself = std::env::current_exe()?;
        for name in ["ada", "grace", "edsger"] {
            let played = limited(Agent::builder(Dialect::stream_json()), asked).program(&myself);
            let played = played.configure(|command| {
                command.env(PLAYS, "1");
            });
            agents.push((name.to_owned(), played.build()));
        }
    }
    Ok(agents)
}

fn limited(builder: AgentBuilder, asked: &Asked) -> AgentBuilder {
    builder.timeout(Duration::from_secs(600)).grace(asked.grace)
}

/// What an agent's task tells the screen.
enum News {
    Started(u32),
    Said(Message),
    Paused,
    Ended(Box<ExecutionReport>),
    NotBegun(String),
}

async fn show() -> Result<ExitCode, Box<dyn Error>> {
    let asked = Asked::read(std::env::args().skip(1))?;
    let agents = agents(&asked)?;
    let mut screen = Screen::new(agents.iter().map(|(name, _)| &name[..]));
    let (sender, mut news) = mpsc::channel(100);
    let mut tasks = JoinSet::new();
    for (at, (_, agent)) in agents.iter().enumerate() {
        tasks.spawn(follow(at, agent.clone(), asked.prompt.clone(), sender.clone()));
    }
    drop(sender);

    let mut frames = tokio::time::interval(FRAME);
    let mut interrupts = Interrupts::listen()?;
    loop {
        tokio::select! {
            told = news.recv() => match told {
                Some((at, told)) => {
                    screen.take(at, told)?;
                    assert!(!(asked.panic && screen.everybody_has_spoken()), "a panic, as it was asked for");
                }
                None => break,
            },
            _ = frames.tick() => screen.draw()?,
            signal = interrupts.next() => {
                screen.draw()?;
                clean_up(&agents, signal, &mut interrupts).await;
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
    }
    screen.draw()?;
    Ok(ExitCode::SUCCESS)
}

/// Gives one agent the prompt and tells what comes of it.
async fn follow(at: usize, agent: Agent, prompt: String, screen: mpsc::Sender<(usize, News)>) {
    // Nobody listens any more when the program is about to end; then it does not matter.
    let tell = async |news| drop(screen.send((at, news)).await);
    let mut execution = match agent.execute(prompt) {
        Ok(execution) => execution,
        Err(error) => return tell(News::NotBegun(error.to_string())).await,
    };
    let mut pid = None;
    loop {
        if execution.pid() != pid {
            pid = execution.pid();
            tell(pid.map_or(News::Paused, News::Started)).await;
        }
        match execution.next_message().await {
            Some(message) => tell(News::Said(message)).await,
            None => return tell(News::Ended(Box::new(execution.wait().await))).await,
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Interrupts;

#[cfg(not(unix))]
impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "interrupted",
            Err(_) => std::future::pending().await,
        }
    }
}

/// Ctrl-C, and a polite request to end.
#[cfg(unix)]
struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "asked to end",
        }
    }
}

/// Asks everybody to end and waits for it. Whoever does not want to wait asks again, and all are killed.
async fn clean_up(agents: &[(String, Agent)], why: &str, interrupts: &mut Interrupts) {
    println!("{why}: cleaning up; once more kills");
    // The call itself asks, so all of them have their grace at the same time.
    let cleanups: Vec<_> = agents.iter().map(|(name, agent)| (name, agent.cleanup())).collect();
    let polite = async {
        for (name, cleanup) in cleanups {
            println!("{why}: {name}: {}", cleanup.await);
        }
    };
    let again = tokio::select! {
        () = polite => return,
        again = interrupts.next() => again,
    };
    let mut kills = JoinSet::new();
    for (name, agent) in agents.iter().cloned() {
        kills.spawn(async move { (name, agent.cleanup_within(Duration::ZERO).await) });
    }
    while let Some(Ok((name, killed))) = kills.join_next().await {
        println!("{again} again: {name}: {killed}");
    }
}

/// One line for each agent.
struct Screen {
    lines: Vec<Line>,
    is_terminal: bool,
    /// How many lines were drawn, to be drawn over.
    drawn: usize,
}

struct Line {
    name: String,
    state: String,
    pid: Option<u32>,
    messages: BTreeMap<MessageKind, u64>,
    last: String,
}

impl Screen {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let line = |name: &str| Line {
            name: name.to_owned(),
            state: "starting".to_owned(),
            pid: None,
            messages: BTreeMap::new(),
            last: String::new(),
        };
        Self { lines: names.map(line).collect(), is_terminal: std::io::stdout().is_terminal(), drawn: 0 }
    }

    fn everybody_has_spoken(&self) -> bool {
        self.lines.iter().all(|line| !line.messages.is_empty())
    }

    fn take(&mut self, at: usize, news: News) -> std::io::Result<()> {
        let line = &mut self.lines[at];
        let told = line.take(news);
        if self.is_terminal { Ok(()) } else { writeln!(std::io::stdout(), "{}: {told}", line.name) }
    }

    /// Draws all lines over those that were drawn before.
    fn draw(&mut self) -> std::io::Result<()> {
        if !self.is_terminal {
            return Ok(());
        }
        let mut frame = String::new();
        if self.drawn > 0 {
            let _ = write!(frame, "\x1b[{}A", self.drawn);
        }
        for line in &self.lines {
            let _ = writeln!(frame, "\x1b[2K{}", fitting(&line.to_string()));
        }
        let _ = writeln!(frame, "\x1b[2K{}", fitting(&registered()));
        self.drawn = self.lines.len() + 1;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(frame.as_bytes())?;
        stdout.flush()
    }
}

impl Line {
    /// Notes what is new, and says it.
    fn take(&mut self, news: News) -> String {
        match news {
            News::Started(pid) => {
                (self.state, self.pid) = ("running".to_owned(), Some(pid));
                format!("running as {pid}")
            }
            News::Paused => {
                (self.state, self.pid) = ("pausing".to_owned(), None);
                self.state.clone()
            }
            News::Said(message) => {
                *self.messages.entry(message.kind).or_default() += 1;
                let said = String::from_utf8_lossy(&message.raw);
                self.last = harmless(message.text.as_deref().unwrap_or(&said));
                format!("{}: {}", message.kind, self.last)
            }
            News::Ended(report) => {
                (self.state, self.pid) = (format!("{:?}", report.end), None);
                format!("{} after {:.1} s", self.state, report.took.as_secs_f64())
            }
            News::NotBegun(why) => {
                (self.state, self.last) = ("not begun".to_owned(), harmless(&why));
                self.last.clone()
            }
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8} {:10}", self.name, self.state)?;
        match self.pid.and_then(used_by) {
            Some(used) => write!(f, " {:>5.1} s {:>6} KiB", used.cpu.as_secs_f64(), used.kib)?,
            None => write!(f, " {:19}", "")?,
        }
        write!(f, " {:>4} said", self.messages.values().sum::<u64>())?;
        write!(f, "  {}", self.last)
    }
}

/// What there is of everything, as the registry of this process knows it.
fn registered() -> String {
    let stats = Minder::shared().stats();
    let mut text = String::from("registered:");
    for kind in childminder::Kind::ALL {
        let _ = write!(text, " {} {kind}", stats.resources.of(kind));
    }
    let oldest = stats.oldest.unwrap_or_default().as_secs_f64();
    let _ = write!(text, ", the oldest {oldest:.1} s; {} started, {} ended", stats.starts, stats.ends.all());
    text
}

/// What a process uses just now.
struct Used {
    cpu: Duration,
    kib: u64,
}

/// What the kernel tells of a process; of one that is gone, nothing.
fn used_by(pid: u32) -> Option<Used> {
    /// What `/proc` counts in on every machine that Linux runs on today.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = resident.trim().trim_end_matches(" kB").parse().ok()?;
    Some(Used { cpu: TICK * ticks, kib })
}

/// What comes from an agent must not steer the terminal, nor turn its text around.
fn harmless(text: &str) -> String {
    let is_harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    text.chars().take(500).map(|c| if is_harmful(c) { ' ' } else { c }).collect()
}

/// As much of a line as a narrow terminal has room for, so that it stays one line.
fn fitting(line: &str) -> String {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(80);
    line.chars().take(columns).collect()
}

/// Plays an agent: thinks, uses a tool that goes on for long in a session of its own, and answers.
fn play() -> ExitCode {
    match played() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn played() -> Result<(), Box<dyn Error>> {
    /// How long it thinks before each word.
    const THOUGHT: Duration = Duration::from_millis(150);
    let prompt = std::io::read_to_string(std::io::stdin())?;
    let mut stdout = std::io::stdout().lock();
    let mut say = |message: serde_json::Value| {
        writeln!(stdout, "{message}")?;
        stdout.flush()
    };
    say(serde_json::json!({ "type": "status", "status": format!("thinking about: {}", prompt.trim()) }))?;
    let mut tool = std::process::Command::new("setsid");
    // A prompt of this word is one for a tool that does not listen.
    let is_deaf = prompt.contains("deaf");
    tool.args([
        "sh",
        "-c",
        if is_deaf { "trap '' TERM; echo; sleep 1000; :" } else { "echo; exec sleep 1000" },
    ])
    .stdin(Stdio::null())
    .stdout(Stdio::piped())
    .stderr(Stdio::null());
    let mut tool = tool.spawn()?;
    // It is as it will be, deaf or not, when it has said its word.
    tool.stdout.as_mut().ok_or("it is piped")?.read_exact(&mut [0])?;
    say(
        serde_json::json!({ "type": "tool_use", "tool": "sleep", "text": format!("uses sleep as {}", tool.id()) }),
    )?;
    // A prompt of this word is one that takes for ever.
    let is_hard = prompt.contains("forever");
    for word in
        "it depends on what you mean by that".split(' ').cycle().take(if is_hard { usize::MAX } else { 8 })
    {
        std::thread::sleep(THOUGHT);
        say(serde_json::json!({ "type": "stream", "text": word }))?;
    }
    say(serde_json::json!({ "type": "result", "text": "it depends" }))?;
    Ok(())
}
