//! What a real child would be too quick for: a shutdown that finds a run on its way from one part to the next.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::cost::uneventful;
use super::*;
use crate::outcome::{Left, Outcome};
use crate::run::Common;
use crate::state::Move;

/// A run that is being started.
fn starting(minder: &Minder) -> Arc<Common> {
    let about = About { description: "a run".into(), metadata: Box::new([]), created_at: Location::caller() };
    let common = Arc::new(Common::new(RunEntry::new(Arc::clone(&minder.registry), about)));
    assert!(minder.registry.enrol(&common));
    common.make(Move::Start);
    common
}

/// Does something to a run once a shutdown has come to it.
fn when_asked(common: &Arc<Common>, act: impl FnOnce(&Common) + Send + 'static) -> thread::JoinHandle<()> {
    let common = Arc::clone(common);
    thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !common.entry.is_asked() {
            assert!(Instant::now() < deadline, "it was not asked");
            thread::sleep(Duration::from_millis(1));
        }
        act(&common);
    })
}

#[test]
fn a_start_that_fails_during_a_shutdown_has_left_nothing_and_is_no_failure_of_it() {
    let minder = Minder::new();
    let common = starting(&minder);
    let fails = when_asked(&common, Common::fail_start);
    let report = minder.shutdown_blocking(Duration::from_secs(60));
    fails.join().expect("it was asked");
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.cleaned.process, report.cleaned.all()), (1, 1));
}

#[test]
fn of_the_streams_of_a_run_that_which_is_still_open_has_failed_and_no_other() {
    let minder = Minder::new();
    let common = starting(&minder);
    common.begin(1, Parts::default().with(Part::Stdout).with(Part::Stderr));
    common.make(Move::Stop);
    common.end(&uneventful(), false);
    let ends = when_asked(&common, |common| common.lose(Parts::default().with(Part::Stdout)));
    let report = minder.shutdown_blocking(Duration::from_secs(2));
    ends.join().expect("it was asked");
    assert_eq!((report.cleaned.stream, report.failed.stream), (1, 1), "{report}");
    let named: Vec<_> = report.errors.iter().map(|error| error.resource.description.as_str()).collect();
    assert_eq!(named, ["stderr of a run"]);
}

#[test]
fn a_run_of_which_somebody_may_be_left_is_a_failure() {
    let minder = Minder::new();
    let common = starting(&minder);
    common.begin(1, Parts::default());
    let ends = when_asked(&common, |common| {
        common.make(Move::Stop);
        common.end(&Outcome { left: Left::Unknown("a test"), ..uneventful() }, false);
    });
    let report = minder.shutdown_blocking(Duration::from_secs(60));
    ends.join().expect("it was asked");
    assert_eq!((report.cleaned.all(), report.failed.process, report.errors.len()), (0, 1, 1), "{report}");
    assert_eq!(minder.stats().failed_ends, 1);
}

#[test]
fn what_is_noted_again_takes_the_place_of_what_was_noted_before() {
    let minder = Minder::new();
    let registration = minder.register(Kind::Task, "a task");
    for progress in 0..1000 {
        registration.note("progress", progress.to_string());
    }
    registration.note("who", "me");
    let wanted = [("progress", "999"), ("who", "me")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(minder.resources()[0].metadata, wanted);
}
