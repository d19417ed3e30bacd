//! How the nanny behaves, as a pure table.
//!
//! | state | event | next state | acts |
//! |---|---|---|---|
//! | `Running` | leader ended | `Killing` | kill |
//! | `Running` | asked | `Asked` | ask everybody |
//! | `Running` | killed, owner gone | `Killing` | kill |
//! | `Asked` | asked | `Asked` | ask everybody |
//! | `Asked` | leader ended, child ended | `Asked` | ask newcomers |
//! | `Asked` | time passed | `Asked` | ask newcomers, tell |
//! | `Asked` | grace over, killed, owner gone | `Killing` | kill |
//! | `Killing` | leader ended, child ended, killed | `Killing` | kill |
//! | `Killing` | time passed | `Killing` | kill everybody, tell |
//! | any | nobody left | `Empty` | tell |
//!
//! Everything else changes nothing. To *kill* is to kill the children and the groups that they lead: each death hands
//! the dead one's children over to the nanny, and the next kill reaches those. To *kill everybody* goes down the tree
//! as well, which is dear and is needed only when a death is long in coming. Where the run has a control group, everybody
//! in it is killed at once before that; whoever has left the group is reached as always. Newcomers are children that were not asked
//! yet, as everybody was asked last: they were orphaned since. Whoever was forked since by a parent that is still alive is
//! that parent's business; so of each one the children are noted before it is asked, and only those are asked after it.
//! The owner is told late rather than twice: mostly nobody is left a moment after the leader has ended.

/// What the nanny is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The leader runs and nobody wants it to end.
    Running,
    /// Everybody was asked to end.
    Asked,
    /// Everybody is being killed.
    Killing,
    /// Nobody is left.
    Empty,
}

/// What can happen to the nanny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The leader has ended and is not reaped yet, so that its group is still its group.
    LeaderEnded,
    /// Another child has ended.
    ChildEnded,
    /// The kernel knows no children.
    NobodyLeft,
    /// The owner wants everybody asked.
    AskOrdered,
    /// The time is over that everybody was given when asked.
    GraceOver,
    /// The owner wants everybody killed.
    KillOrdered,
    /// The owner has ended, or has let go of the nanny.
    OwnerGone,
    /// Nothing happened for a while.
    TimePassed,
}

/// What the nanny does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    AskEverybody,
    AskNewcomers,
    Kill,
    KillEverybody,
    /// Tell the owner what it does not know yet.
    Tell,
}

/// One move.
pub(crate) fn turn(state: State, event: Event) -> (State, &'static [Act]) {
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Empty, _) => (S::Empty, &[]),
        (_, E::NobodyLeft) => (S::Empty, &[Act::Tell]),
        (S::Running, E::LeaderEnded) => (S::Killing, &[Act::Kill]),
        (S::Running | S::Asked, E::AskOrdered) => (S::Asked, &[Act::AskEverybody]),
        (S::Asked, E::LeaderEnded | E::ChildEnded) => (S::Asked, &[Act::AskNewcomers]),
        (S::Asked, E::TimePassed) => (S::Asked, &[Act::AskNewcomers, Act::Tell]),
        (S::Running | S::Asked, E::KillOrdered | E::OwnerGone) => (S::Killing, &[Act::Kill]),
        (S::Asked, E::GraceOver) => (S::Killing, &[Act::Kill]),
        (S::Killing, E::LeaderEnded | E::ChildEnded | E::KillOrdered) => (S::Killing, &[Act::Kill]),
        (S::Killing, E::TimePassed) => (S::Killing, &[Act::KillEverybody, Act::Tell]),
        (stay, _) => (stay, &[]),
    }
}

#[cfg(all(test, not(nanny)))]
mod tests {
    use super::*;

    const STATES: [State; 4] = [State::Running, State::Asked, State::Killing, State::Empty];
    const EVENTS: [(Event, &str); 8] = [
        (Event::LeaderEnded, "leader ended"),
        (Event::ChildEnded, "child ended"),
        (Event::NobodyLeft, "nobody left"),
        (Event::AskOrdered, "asked"),
        (Event::GraceOver, "grace over"),
        (Event::KillOrdered, "killed"),
        (Event::OwnerGone, "owner gone"),
        (Event::TimePassed, "time passed"),
    ];
    const ACTS: [(Act, &str); 5] = [
        (Act::AskEverybody, "ask everybody"),
        (Act::AskNewcomers, "ask newcomers"),
        (Act::Kill, "kill"),
        (Act::KillEverybody, "kill everybody"),
        (Act::Tell, "tell"),
    ];

    /// The rows of the table above: states, events, the next state, acts.
    fn rows() -> Vec<[Vec<String>; 4]> {
        let lines = include_str!("table.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
        let cell = |cell: &str| cell.split(',').map(|word| word.trim().replace('`', "")).collect::<Vec<_>>();
        lines
            .skip(1)
            .map(|line| {
                let cells: Vec<_> = line.trim_end_matches('|').split('|').map(cell).collect();
                cells.try_into().expect("four columns")
            })
            .collect()
    }

    #[test]
    fn the_table_in_the_documentation_is_the_one_that_is_followed() {
        let rows = rows();
        assert!(rows.len() >= 8, "the table was not found");
        for state in STATES.into_iter().filter(|state| *state != State::Empty) {
            for (event, name) in EVENTS {
                let row = rows.iter().find(|[states, events, ..]| {
                    (states[0] == "any" || states.contains(&format!("{state:?}")))
                        && events.iter().any(|event| event == name)
                });
                let (next, acts) = turn(state, event);
                let acts: Vec<_> = acts
                    .iter()
                    .map(|act| ACTS.iter().find(|(one, _)| one == act).expect("it is listed").1)
                    .collect();
                match row {
                    Some([_, _, to, named]) => {
                        assert_eq!(to[0], format!("{next:?}"), "{state:?} on {name}");
                        assert_eq!(*named, acts, "{state:?} on {name}");
                    }
                    None => {
                        assert_eq!((next, acts.len()), (state, 0), "{state:?} on {name} is not in the table");
                    }
                }
            }
        }
    }

    #[test]
    fn the_end_of_everybody_is_final() {
        for (event, _) in EVENTS {
            assert_eq!(turn(State::Empty, event), (State::Empty, &[] as &[Act]));
        }
    }

    #[test]
    fn the_nanny_never_goes_back() {
        let height = |state| STATES.iter().position(|one| *one == state);
        for state in STATES {
            for (event, _) in EVENTS {
                assert!(height(turn(state, event).0) >= height(state), "{state:?} on {event:?}");
            }
        }
    }

    #[test]
    fn nobody_is_killed_before_the_grace_is_over_but_by_order_or_because_the_owner_is_gone() {
        for (event, _) in EVENTS {
            let (_, acts) = turn(State::Asked, event);
            let kills = acts.iter().any(|act| matches!(act, Act::Kill | Act::KillEverybody));
            assert_eq!(
                kills,
                matches!(event, Event::GraceOver | Event::KillOrdered | Event::OwnerGone),
                "{event:?}"
            );
        }
    }

    #[test]
    fn every_state_but_the_last_is_left_when_the_owner_is_gone() {
        for state in [State::Running, State::Asked, State::Killing] {
            assert_eq!(turn(state, Event::OwnerGone).0, State::Killing, "{state:?}");
        }
    }
}
