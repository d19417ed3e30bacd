//! A trace as a picture in text: a lane for the caller, the host and each node over time.

use std::collections::BTreeMap;

use fake_cli::control::Report;
use fake_cli::script::Signal;
use unicode_width::UnicodeWidthStr as _;

use crate::report::escape::for_terminal;
use crate::scenario::Verb;
use crate::trace::{Seen, Status, Trace, What};

/// Most lanes that are drawn.
const MOST_LANES: usize = 24;
/// Widest label of a lane.
const WIDEST_LABEL: usize = 18;
/// Fewest columns of the time axis.
const FEWEST_COLUMNS: usize = 20;

/// Draws a trace in at most `width` columns.
pub fn render(trace: &Trace, width: usize) -> String {
    let mut lanes = Lanes::of(trace);
    let hidden = lanes.lanes.len().saturating_sub(MOST_LANES);
    lanes.lanes.truncate(MOST_LANES);
    let label = lanes.lanes.iter().map(|lane| lane.label.width()).max().unwrap_or(0).min(WIDEST_LABEL);
    let columns = width.saturating_sub(label + 2).max(FEWEST_COLUMNS);
    let axis = Axis::through(&lanes.lanes, end_of(trace), columns);
    let mut text = String::new();
    for lane in &lanes.lanes {
        let row = format!("{}  {}", padded(&lane.label, label), lane.draw(&axis));
        text.push_str(row.trim_end());
        text.push('\n');
    }
    if hidden > 0 {
        text.push_str(&format!("… and {hidden} more\n"));
    }
    text.push_str(&format!("{}  {}\n", " ".repeat(label), axis.draw()));
    text.push_str(&legend(&lanes.lanes, width));
    text
}

struct Lanes {
    lanes: Vec<Lane>,
    place_of: BTreeMap<(u32, String), usize>,
    several_runs: bool,
}

/// One lane: from when to when somebody lives, and what happens meanwhile.
struct Lane {
    label: String,
    lives: Option<(u64, Option<u64>)>,
    marks: Vec<Mark>,
}

struct Mark {
    at_us: u64,
    glyph: char,
    meaning: String,
}

/// Which column a time has. Long gaps are drawn shorter than they are, or what happens within a millisecond could not be
/// told apart beside a wait of seconds.
struct Axis {
    /// Times at which something happens, and how far right that is, from 0 to 1.
    stops: Vec<(u64, f64)>,
    columns: usize,
}

impl Lanes {
    fn of(trace: &Trace) -> Self {
        let runs = trace.scenario.ops.iter().filter(|op| op.verb == Verb::Run).count();
        let mut lanes = Self {
            lanes: vec![Lane::new("caller"), Lane::new("host")],
            place_of: BTreeMap::new(),
            several_runs: runs > 1,
        };
        for moment in &trace.moments {
            lanes.take(moment.at_us, &moment.what);
        }
        lanes.strangers(trace);
        lanes.lanes.push(harness_lane(trace));
        lanes
    }

    fn take(&mut self, at_us: u64, what: &What) {
        match what {
            What::Issued { verb, .. } => self.lanes[0].mark(at_us, glyph_of(*verb), verb.name()),
            What::Unimplemented { .. } | What::OpFailed { .. } => {
                self.lanes[0].mark(at_us, '!', "op failed".to_owned());
            }
            What::Ended { .. } => self.lanes[0].mark(at_us, 'e', "run ended".to_owned()),
            What::Again { .. } => self.lanes[0].mark(at_us, 'a', "answered again".to_owned()),
            What::GateStuck { .. } => self.lanes[0].mark(at_us, '#', "gate never opened".to_owned()),
            What::Polled { polled, .. } => {
                self.lanes[0].mark(at_us, 'p', format!("is {}", polled.state.name()));
            }
            What::Called { .. } => self.lanes[0].mark(at_us, 't', "all callers were answered".to_owned()),
            What::HostContinued => self.lanes[1].mark(at_us, 'c', "continued by the harness".to_owned()),
            What::Done { .. }
            | What::ChildStatus { .. }
            | What::HostGiven(_)
            | What::HostUsed(_)
            | What::Terminal(_) => {}
            What::HostStopped { signal } => {
                let signal = Signal::name_of(*signal);
                self.lanes[1].mark(at_us, 't', format!("stopped by {signal}"));
            }
            What::SystemCall(call) if call.text.is_empty() => {
                self.lanes[1].mark(at_us, '*', format!("{} {}", call.call, call.nth));
            }
            What::SystemCall(call) => self.lanes[1].mark(at_us, '*', call.text.clone()),
            What::Held { call, nth } => self.lanes[1].mark(at_us, '|', format!("{call} {nth} held")),
            What::LetGo { call, nth, .. } => self.lanes[1].mark(at_us, '>', format!("{call} {nth} let go")),
            What::HostStarted { .. } => self.lanes[1].start(at_us),
            What::HostGone { status } => {
                if let Status::Exited(_) = status {
                    self.lanes[1].mark(at_us, '○', "exits".to_owned());
                }
                self.lanes[1].end(at_us);
            }
            What::GaveUp => self.lanes[1].mark(at_us, '?', "not waited for any longer".to_owned()),
            What::Gone { run, node } => self.node(*run, node).end(at_us),
            What::Node { run, node, said, own_at_us } => {
                let at_us = own_at_us.unwrap_or(at_us);
                self.node(*run, node).said(at_us, said);
            }
        }
    }

    fn node(&mut self, run: u32, node: &str) -> &mut Lane {
        let key = (run, node.to_owned());
        let next = self.lanes.len();
        let place = *self.place_of.entry(key).or_insert(next);
        if place == next {
            let label = if self.several_runs { format!("{node}@{run}") } else { node.to_owned() };
            self.lanes.push(Lane::new(&label));
        }
        &mut self.lanes[place]
    }

    /// Survivors that are no nodes have a lane from when they were first seen.
    fn strangers(&mut self, trace: &Trace) {
        let mut known = Vec::new();
        for look in &trace.looks {
            for seen in look.seen.iter().filter(|seen| seen.node.is_none()) {
                if !known.contains(&seen.pid) {
                    known.push(seen.pid);
                    let mut lane = Lane::new(&format!("{} {}", seen.comm, seen.pid));
                    lane.lives = Some((look.at_us.saturating_sub(seen.age_us), None));
                    self.lanes.push(lane);
                }
            }
        }
    }
}

fn harness_lane(trace: &Trace) -> Lane {
    let mut lane = Lane::new("harness");
    for look in &trace.looks {
        lane.mark(look.at_us, 'L', "look".to_owned());
    }
    if !trace.swept.is_empty() {
        let names = trace.swept.iter().map(name_of).collect::<Vec<_>>().join(", ");
        lane.mark(u64::MAX, 'S', format!("swept {names}"));
    }
    lane
}

fn name_of(seen: &Seen) -> String {
    match &seen.node {
        Some((_, node)) => format!("{node} (pid {})", seen.pid),
        None => format!("{} (pid {})", for_terminal(&seen.comm), seen.pid),
    }
}

const fn glyph_of(verb: Verb) -> char {
    match verb {
        Verb::Run => 'R',
        Verb::Cancel => 'C',
        Verb::Drop => 'D',
        Verb::Wait => 'W',
        Verb::AskAgain => 'A',
        Verb::Poll => 'P',
        Verb::Write(_) => 'I',
        Verb::CloseStdin => 'I',
        Verb::Together => 'T',
        Verb::StopHost => 's',
        Verb::ContinueHost => 'c',
        Verb::HangUp => 'H',
        Verb::KillHost => 'K',
        Verb::SignalHost(_) => '!',
        Verb::EndHost(_) => 'X',
    }
}

impl Lane {
    fn new(label: &str) -> Self {
        Self { label: for_terminal(label).into_owned(), lives: None, marks: Vec::new() }
    }

    fn mark(&mut self, at_us: u64, glyph: char, meaning: String) {
        self.marks.push(Mark { at_us, glyph, meaning });
    }

    fn start(&mut self, at_us: u64) {
        // A node that replaced itself says hello twice.
        if self.lives.is_none_or(|(_, end)| end.is_some()) {
            let since = self.lives.map_or(at_us, |(since, _)| since);
            self.lives = Some((since, None));
        }
        self.mark(at_us, '●', "starts".to_owned());
    }

    fn end(&mut self, at_us: u64) {
        let since = self.lives.map_or(at_us, |(since, _)| since);
        self.lives = Some((since, Some(at_us)));
        if !self.marks.iter().any(|mark| mark.glyph == '○') {
            self.mark(at_us, '✗', "is killed".to_owned());
        }
    }

    fn said(&mut self, at_us: u64, said: &Report) {
        match said {
            Report::Hello(_) => self.start(at_us),
            Report::Emit { .. } => self.mark(at_us, '◇', "emits".to_owned()),
            Report::Waits { .. } => self.mark(at_us, '…', "waits at a gate".to_owned()),
            Report::Signal { signal, .. } => {
                let name = Signal::name_of(*signal);
                let glyph = name.chars().next().unwrap_or('?');
                self.mark(at_us, glyph, format!("gets {name}"));
            }
            Report::Exiting { .. } => self.mark(at_us, '○', "exits".to_owned()),
            Report::Failed { .. } => self.mark(at_us, '!', "step failed".to_owned()),
            _ => {}
        }
    }

    fn draw(&self, axis: &Axis) -> String {
        let mut row = vec![' '; axis.columns];
        if let Some((since, until)) = self.lives {
            let last = until.map_or(axis.columns - 1, |until| axis.column(until));
            row[axis.column(since)..=last].fill('─');
            if until.is_none() {
                row[last] = '▶';
            }
        }
        let mut taken = vec![false; axis.columns];
        for mark in &self.marks {
            if let Some(column) = free_column(&taken, axis.column(mark.at_us)) {
                taken[column] = true;
                row[column] = mark.glyph;
            }
        }
        row.into_iter().collect()
    }
}

/// The column itself, else the next free one behind it, else the last free one before it.
fn free_column(taken: &[bool], column: usize) -> Option<usize> {
    (column..taken.len()).find(|&it| !taken[it]).or_else(|| (0..column).rev().find(|&it| !taken[it]))
}

impl Axis {
    fn through(lanes: &[Lane], end_us: u64, columns: usize) -> Self {
        let mut times = lanes.iter().flat_map(|lane| &lane.marks).map(|mark| mark.at_us).collect::<Vec<_>>();
        times.retain(|&at| at <= end_us);
        times.extend([0, end_us]);
        times.sort_unstable();
        times.dedup();
        let mut stops = vec![(0, 0.0)];
        for pair in times.windows(2) {
            let gap_ms = (pair[1] - pair[0]) as f64 / 1000.0;
            let (_, before) = stops[stops.len() - 1];
            stops.push((pair[1], before + 0.5 + gap_ms.ln_1p()));
        }
        let whole = stops[stops.len() - 1].1.max(f64::MIN_POSITIVE);
        stops.iter_mut().for_each(|stop| stop.1 /= whole);
        Self { stops, columns }
    }

    /// The last column is kept for what comes after everything else.
    fn column(&self, at_us: u64) -> usize {
        let last = (self.columns - 2) as f64;
        match self.stops.partition_point(|&(stop, _)| stop < at_us) {
            behind if behind == self.stops.len() => self.columns - 1,
            behind => (self.stops[behind].1 * last).round() as usize,
        }
    }

    /// The times, in milliseconds, below where they are: as many as there is room for, the last one always.
    fn draw(&self) -> String {
        let (end_us, _) = self.stops[self.stops.len() - 1];
        let end = format!("{} ms", millis(end_us));
        let room = (self.columns - 1).saturating_sub(end.len());
        let mut row = String::new();
        for &(at_us, _) in &self.stops {
            let label = millis(at_us);
            let column = self.column(at_us);
            let is_free = row.is_empty() || column >= row.len() + 2;
            if is_free && column + label.len() + 2 <= room {
                row = format!("{row:<column$}{label}");
            }
        }
        format!("{row:<room$}{end}")
    }
}

/// Milliseconds in about three digits.
fn millis(at_us: u64) -> String {
    match at_us {
        0 => "0".to_owned(),
        1..10_000 => format!("{:.1}", at_us as f64 / 1000.0),
        _ => (at_us / 1000).to_string(),
    }
}

/// When the last thing happened.
fn end_of(trace: &Trace) -> u64 {
    let moments = trace.moments.iter().map(|moment| moment.at_us);
    moments.chain(trace.looks.iter().map(|look| look.at_us)).max().unwrap_or(0)
}

/// What the marks that are drawn mean, each once.
fn legend(lanes: &[Lane], width: usize) -> String {
    let mut entries = Vec::new();
    for mark in lanes.iter().flat_map(|lane| &lane.marks) {
        let entry = format!("{} {}", mark.glyph, mark.meaning);
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    if lanes.iter().any(|lane| matches!(lane.lives, Some((_, None)))) {
        entries.push("▶ still lives".to_owned());
    }
    let mut text = String::new();
    let mut column = 0;
    for entry in entries {
        let length = entry.width() + 3;
        if column > 0 && column + length > width {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push_str("   ");
        }
        text.push_str(&entry);
        column += length;
    }
    text.push('\n');
    text
}

fn padded(text: &str, width: usize) -> String {
    let mut cut = String::new();
    for letter in text.chars() {
        if cut.width() + 1 > width {
            break;
        }
        cut.push(letter);
    }
    let missing = width.saturating_sub(cut.width());
    cut + &" ".repeat(missing)
}

#[cfg(test)]
pub(crate) mod tests {
    use fake_cli::control::Hello;

    use super::*;
    use crate::promises::Promises;
    use crate::scenario::{Limits, Scenario};
    use crate::trace::{
        CaseEnd, Look, Method, Moment, Noise, Outcome, Reason, SCHEMA, Stage, Status, SubjectInfo,
        SubjectKind, Tier,
    };

    /// A cancel that reaches root, while its helper in an own session survives.
    pub(crate) fn cancelled_tree() -> Trace {
        let scenario = Scenario::from_json(
            r#"{"schema": 1, "name": "own-session-survives", "why": "a test",
                "script": [{"start": {"node": "helper", "as": "own-session", "script": [{"emit": "ready"}, "hang"]}},
                           {"emit": "ready"}, "hang"],
                "ops": [{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}]}"#,
        )
        .unwrap();
        let node = |node: &str, said| What::Node { run: 1, node: node.to_owned(), said, own_at_us: None };
        let hello = |name: &str| {
            node(name, Report::Hello(Box::new(Hello { node: name.to_owned(), ..Hello::default() })))
        };
        let emit = |name: &str| node(name, Report::Emit { name: "ready".to_owned(), at_ns: 0 });
        let issued = |op, verb| What::Issued { op, verb, run: 1 };
        let outcome = Outcome {
            reason: Reason::Cancelled,
            status: Some(Status::Signaled(15)),
            stdout: None,
            stderr: None,
        };
        let moments = [
            (0, What::HostStarted { pid: 2 }),
            (1_000, issued(0, Verb::Run)),
            (3_000, hello("root")),
            (5_000, hello("helper")),
            (6_000, emit("helper")),
            (8_000, emit("root")),
            (20_000, issued(1, Verb::Cancel)),
            (20_100, issued(2, Verb::Wait)),
            (30_000, node("root", Report::Signal { signal: 15, sender: 2, at_ns: 0 })),
            (40_000, What::Gone { run: 1, node: "root".to_owned() }),
            (45_000, What::Ended { run: 1, outcome }),
        ];
        let survivor = Seen {
            pid: 12,
            start_ticks: 1,
            ppid: 1,
            pgid: 12,
            sid: 12,
            state: 'S',
            comm: "fake".to_owned(),
            node: Some((1, "helper".to_owned())),
            connected: true,
            samples: 2,
            age_us: 95_000,
            dying: false,
        };
        Trace {
            schema: SCHEMA,
            scenario,
            subject: SubjectInfo {
                name: "tokio".to_owned(),
                version: "1.54.1".to_owned(),
                kind: SubjectKind::Host,
                promises: Promises::default(),
                overhead_us: 0,
            },
            tier: Tier::T3,
            limits: Limits::default(),
            moments: moments.into_iter().map(|(at_us, what)| Moment { at_us, what }).collect(),
            looks: vec![Look {
                stage: Stage::Quiesce,
                at_us: 100_000,
                settled_us: 55_000,
                method: Method::Namespace,
                complete: true,
                seen: vec![survivor.clone()],
                sysinfo: Some(vec![12]),
            }],
            inventories: Vec::new(),
            noise: Noise::default(),
            end: CaseEnd::Completed,
            swept: vec![survivor],
            files_left: None,
        }
    }

    #[test]
    fn a_survivor_runs_off_the_picture() {
        insta::assert_snapshot!(render(&cancelled_tree(), 72), @r#"
        caller      R                       CW                    e
        host     ●─────────────────────────────────────────────────────────────▶
        root            ●───────────◇────────────────T──────✗
        helper              ●───◇──────────────────────────────────────────────▶
        harness                                                               LS
                 0  1.0     5.0     8.0     20       30     40    45     100 ms
        R run   C cancel   W wait   e run ended   ● starts   ◇ emits
        T gets TERM   ✗ is killed   L look   S swept helper (pid 12)
        ▶ still lives
        "#);
    }

    #[test]
    fn it_fits_the_width_and_draws_an_empty_trace() {
        for width in [10, 40, 80, 200] {
            let text = render(&cancelled_tree(), width);
            let widest = text.lines().map(str::len).count();
            assert!(widest > 0);
            for line in text.lines().take(6) {
                assert!(line.width() <= width.max(40), "{width}: {line}");
            }
        }
        let empty = Trace { moments: Vec::new(), looks: Vec::new(), swept: Vec::new(), ..cancelled_tree() };
        assert!(render(&empty, 80).contains("caller"));
    }

    #[test]
    fn names_of_processes_cannot_steer_the_terminal() {
        let mut trace = cancelled_tree();
        trace.looks[0].seen[0].node = None;
        trace.looks[0].seen[0].comm = "\x1b[2Jevil\u{202e}".to_owned();
        trace.swept = trace.looks[0].seen.clone();
        let text = render(&trace, 100);
        assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text}");
    }
}
