//! How the nanny behaves, as a pure table.
//!
//! | state | event | next state | acts |
//! |---|---|---|---|
//! | `Running` | leader ended | `Killing` | kill |
//! | `Running` | asked | `Asked` | ask everybody |
//! | `Running` | killed, owner gone | `Killing` | kill |
//! | `Asked` | leader ended, child ended | `Asked` | ask newcomers |
//! | `Asked` | time passed | `Asked` | ask newcomers, tell |
//! | `Asked` | killed, owner gone | `Killing` | kill |
//! | `Killing` | leader ended, child ended, killed | `Killing` | kill |
//! | `Killing` | time passed | `Killing` | kill everybody, tell |
//! | any | nobody left | `Empty` | tell |
//!
//! Everything else changes nothing. To *kill* is to kill the children and the groups that they lead: each death hands
//! the dead one's children over to the nanny, and the next kill reaches those. To *kill everybody* goes down the tree
//! as well, which is dear and is needed only when a death is long in coming. Where the run has a control group, everybody
//! in it is killed at once before that; whoever has left the group is reached as always. Newcomers are children that were not asked
//! yet: they were orphaned since. Whoever was forked since by a parent that is still alive is that parent's business.
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
        (S::Running, E::AskOrdered) => (S::Asked, &[Act::AskEverybody]),
        (S::Asked, E::LeaderEnded | E::ChildEnded) => (S::Asked, &[Act::AskNewcomers]),
        (S::Asked, E::TimePassed) => (S::Asked, &[Act::AskNewcomers, Act::Tell]),
        (S::Running | S::Asked, E::KillOrdered | E::OwnerGone) => (S::Killing, &[Act::Kill]),
        (S::Killing, E::LeaderEnded | E::ChildEnded | E::KillOrdered) => (S::Killing, &[Act::Kill]),
        (S::Killing, E::TimePassed) => (S::Killing, &[Act::KillEverybody, Act::Tell]),
        (stay, _) => (stay, &[]),
    }
}
