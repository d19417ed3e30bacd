//! What a subscriber is told of runs.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use childminder::{Command, Ended, Event, Output, Reason, Run};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber, subscriber};

const LONG: Duration = Duration::from_secs(600);

/// One thing that was told, with the names of the spans around it.
#[derive(Clone, Debug)]
struct Told {
    what: String,
    within: Vec<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

#[derive(Default)]
struct Notes {
    told: Vec<Told>,
    /// By number, from 1.
    spans: Vec<&'static str>,
    entered: Vec<u64>,
    closed: usize,
}

/// Notes everything, and who says it: a child that shares our memory, or has a copy of it, would say another number.
struct Noting {
    notes: Arc<Mutex<Notes>>,
    speakers: Mutex<UnixStream>,
    panics: AtomicBool,
}

impl Noting {
    fn new() -> (Self, Arc<Mutex<Notes>>, UnixStream) {
        let (reader, writer) = UnixStream::pair().expect("two ends");
        let notes = Arc::<Mutex<Notes>>::default();
        let noting =
            Self { notes: Arc::clone(&notes), speakers: Mutex::new(writer), panics: AtomicBool::new(false) };
        (noting, notes, reader)
    }

    fn note(&self, what: &str, fields: Fields) {
        let mut speakers = self.speakers.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(speakers, "{}", std::process::id()).expect("somebody reads");
        let mut notes = locked(&self.notes);
        let within = notes.entered.iter().map(|id| notes.spans[*id as usize - 1]).collect();
        notes.told.push(Told { what: what.to_owned(), within, fields: fields.0 });
        drop(notes);
        if self.panics.load(Ordering::SeqCst) {
            // Without the hook that would write a message to the test's output.
            std::panic::resume_unwind(Box::new("a bad subscriber"));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscriber for Noting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "childminder"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.note(&format!("span {}", span.metadata().name()), fields);
        let mut notes = locked(&self.notes);
        notes.spans.push(span.metadata().name());
        Id::from_u64(notes.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let what = fields.0.remove("message").unwrap_or_default();
        self.note(&what, fields);
    }

    fn enter(&self, id: &Id) {
        locked(&self.notes).entered.push(id.into_u64());
    }

    fn exit(&self, _: &Id) {
        locked(&self.notes).entered.pop();
    }

    fn try_close(&self, _: Id) -> bool {
        locked(&self.notes).closed += 1;
        true
    }
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).grace(LONG).stdout(Output::Streamed);
    command
}

async fn until_ready(run: &mut Run) {
    while let Some(event) = run.next_event().await {
        if let Event::Stdout(_) = event {
            return;
        }
    }
    panic!("it ended before it was ready");
}

/// What was told, without what is different each time.
fn story(notes: &Mutex<Notes>) -> Vec<String> {
    let told = &locked(notes).told;
    let tell = |one: &Told| {
        let fields = one
            .fields
            .iter()
            .filter(|(name, _)| matches!(**name, "rung" | "ask" | "reason" | "ended" | "escalated"));
        let fields: Vec<_> = fields.map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{}: {}{}", one.within.join("."), one.what, fields.concat())
    };
    told.iter().map(tell).collect()
}

#[tokio::test]
async fn a_run_has_a_span_and_so_has_its_stop_with_an_event_for_each_rung() {
    let (noting, notes, mut speakers) = Noting::new();
    let outcome = {
        let _current = subscriber::set_default(noting);
        let mut run = sh("trap '' TERM; echo; exec sleep 600").start().expect("it starts");
        until_ready(&mut run).await;
        run.cancel();
        run.cancel();
        run.wait().await
    };
    assert_eq!(outcome.ended, Ended::Stopped(Reason::Cancelled));
    assert_eq!(
        story(&notes),
        [
            ": span run",
            "run: started",
            "run: span stop reason=Cancelled",
            "stop: asked ask=SIGTERM",
            "stop: rung rung=Asked",
            "stop: rung rung=Killed",
            "stop: rung rung=Swept",
            "stop: rung rung=Gone",
            "run: ended ended=Stopped(Cancelled) escalated=true",
        ]
    );
    let closed = locked(&notes).closed;
    assert_eq!(
        (closed, locked(&notes).spans.len()),
        (2, 2),
        "both are closed before anybody hears of the end"
    );
    let mut said = String::new();
    speakers.read_to_string(&mut said).expect("text");
    let own = std::process::id().to_string();
    assert!(said.lines().count() == 9 && said.lines().all(|speaker| speaker == own), "{said:?}");
}

#[tokio::test]
async fn a_child_that_ends_by_itself_has_no_span_of_a_stop_and_a_failed_start_says_why() {
    let (noting, notes, _speakers) = Noting::new();
    let _current = subscriber::set_default(noting);
    sh("exit 0").run().await.expect("it starts");
    Command::new("/nowhere/at/all").start().expect_err("there is no such program");
    assert_eq!(
        story(&notes),
        [
            ": span run",
            "run: started",
            "run: rung rung=Swept",
            "run: rung rung=Gone",
            "run: ended ended=ByItself escalated=false",
            ": span run",
            "run: not started",
        ]
    );
    let why = locked(&notes).told.last().and_then(|told| told.fields.get("error").cloned());
    assert!(why.as_ref().is_some_and(|why| why.contains("/nowhere/at/all")), "{why:?}");
}

/// The hooks of a converted command run in the owner's memory image between the fork and the exec.
#[tokio::test]
async fn nothing_is_told_between_the_fork_and_the_exec_of_a_converted_command_either() {
    let (noting, notes, mut speakers) = Noting::new();
    {
        let _current = subscriber::set_default(noting);
        let mut plain = tokio::process::Command::new("sh");
        plain.args(["-c", "exit 0"]);
        Command::from(plain).run().await.expect("it starts");
    }
    assert_eq!(story(&notes).len(), 5, "{:?}", story(&notes));
    let mut said = String::new();
    speakers.read_to_string(&mut said).expect("text");
    let own = std::process::id().to_string();
    assert!(!said.is_empty() && said.lines().all(|speaker| speaker == own), "{said:?}");
}

#[tokio::test]
async fn a_subscriber_that_panics_hurts_no_run() {
    let (noting, notes, _speakers) = Noting::new();
    noting.panics.store(true, Ordering::SeqCst);
    let _current = subscriber::set_default(noting);
    let mut bystander = sh("echo; exec sleep 600").start().expect("it starts");
    until_ready(&mut bystander).await;
    let outcome = sh("exit 3").run().await.expect("it starts");
    assert_eq!(outcome.exit.and_then(|exit| exit.code()), Some(3));
    assert!(bystander.state().is_active(), "{:?}", bystander.state());
    bystander.cancel();
    assert_eq!(bystander.wait().await.ended, Ended::Stopped(Reason::Cancelled));
    assert!(!story(&notes).is_empty());
}
