//! The nanny by itself, without a control group or a namespace.

use childminder::{Command, Containment, Ended, Left, Reason};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::{LONG_GRACE, assert_all_dead, eventually, is_alive, pids, run, sh, start, within};

#[tokio::test]
async fn somebody_who_kills_the_nanny_is_found_out_and_the_session_is_swept() {
    let mut run = start(sh("trap '' TERM; sleep 100 & echo $!; echo $$; wait").grace(LONG_GRACE));
    let tree = pids(&mut run, 2).await;
    let leader = Pid::from_raw(i32::try_from(tree[1]).expect("a pid"));
    // The nanny leads the session.
    let nanny = nix::unistd::getsid(Some(leader)).expect("it lives");
    assert_ne!(nanny, leader);
    kill(nanny, Signal::SIGKILL).expect("it is ours");
    let outcome = within(run.wait()).await;
    assert_all_dead(&tree);
    assert_eq!(outcome.ended, Ended::Stopped(Reason::ContainmentLost));
    assert!(matches!(outcome.left, Left::Unknown(_)), "it cannot be known: {outcome:?}");
    eventually("the nanny is reaped", || !is_alive(nanny.as_raw().unsigned_abs()));
}

#[tokio::test]
async fn a_program_that_is_required_to_be_contained_says_by_what() {
    let mut command = Command::new("true");
    assert_eq!(command.get_containment(), Ok(Containment::Nanny));
    assert_eq!(command.require(Containment::Group).get_containment(), Ok(Containment::Group));
    let outcome = run(&mut command).await;
    assert_eq!(outcome.containment, Containment::Group);
}

#[test]
fn every_containment_has_a_name_by_which_it_is_found_and_says_what_it_cannot_hold() {
    for containment in Containment::ALL {
        assert_eq!(containment.to_string().parse(), Ok(containment));
        assert!(!containment.cannot_hold().is_empty());
    }
    let error = "jail".parse::<Containment>().expect_err("there is none of this name");
    assert_eq!(error.to_string(), "there is no containment \"jail\"; there are sealed, cgroup, nanny, group");
}

#[test]
fn a_containment_is_preferred_down_to_the_nanny_and_required_without_a_way_out() {
    for containment in [Containment::Sealed, Containment::Cgroup] {
        let mut command = Command::new("true");
        let preferred = command.containment(containment).get_containment().expect("a weaker one will do");
        let required = command.require(containment).get_containment();
        match containment.probe() {
            Ok(_) => assert_eq!((preferred, required), (containment, Ok(containment))),
            Err(lack) => assert_eq!((preferred, required), (Containment::Nanny, Err(lack))),
        }
    }
}
