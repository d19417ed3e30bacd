//! What the nanny and its owner say to each other. Compiled into both, so there is one version of it.
//!
//! One packet each, in the byte order of the machine that both run on. The owner sends one request, with descriptors
//! and then orders, of one byte or ten. The nanny sends reports, each of which holds everything it knows: a later one
//! replaces an earlier one, and one that is lost is no loss. The first report of a nanny that is the first of a pid namespace
//! brings a handle of that nanny along, and that of one which stays in the owner's session a handle of the child. All numbers of processes are those of the owner's pid namespace.

/// The owner's request is this byte, with a handle of the owner as the first descriptor, mostly the child's stdin as the
/// second, and perhaps more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Request {
    /// Start the program that the arguments name.
    Start = b's',
    /// Start it within the control group whose directory is the third descriptor.
    StartInCgroup = b'c',
    /// Start it within a pid namespace.
    StartSealed = b'n',
    /// Start it in the foreground of the owner's terminal, which is the third descriptor. The nanny stays in the owner's
    /// session for that, in a group of its own.
    StartInForeground = b'f',
    /// The program is started already; be its nanny. With this the second descriptor is the directory of its control
    /// group, if it has one.
    Adopt = b'p',
}

/// What the owner may order while the child runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Ask everybody to end, also those who were asked before; what follows is an [`AskOrder`].
    Ask = b'a',
    /// Kill everybody.
    Kill = b'k',
}

/// How everybody is to be asked, and when they are to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskOrder {
    /// The number of the signal. 0 if they are asked by something else than a signal.
    pub(crate) signal: u8,
    /// It counts from when they are asked, so that on a crowded machine nobody gets less of it. When it is too large for
    /// the clock they are not killed before that is ordered.
    pub(crate) grace_ns: u64,
}

/// How many bytes an order takes at most.
pub(crate) const ORDER_BYTES: usize = 10;

impl AskOrder {
    #[cfg(not(nanny))]
    pub(crate) fn encode(self) -> [u8; ORDER_BYTES] {
        let mut order = [Order::Ask as u8; ORDER_BYTES];
        order[1] = self.signal;
        order[2..].copy_from_slice(&self.grace_ns.to_ne_bytes());
        order
    }

    #[cfg(any(nanny, test))]
    pub(crate) fn decode([_, signal, grace_ns @ ..]: [u8; ORDER_BYTES]) -> Self {
        Self { signal, grace_ns: u64::from_ne_bytes(grace_ns) }
    }
}

/// What a report is sent for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Kind {
    /// The child was started.
    #[default]
    Started = 1,
    /// It was not, and nothing is left of the attempt.
    NotStarted = 2,
    /// Something has changed, and somebody is still there.
    Going = 3,
    /// Nobody is left: the kernel says that there are no children. The nanny ends after this.
    Empty = 4,
}

/// The steps of a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Step {
    /// Block all signals.
    #[default]
    Mask = 1,
    /// Become the leader of a session.
    Session = 2,
    /// Become the subreaper of the run.
    Subreaper = 3,
    /// Close what was inherited.
    Close = 4,
    /// Receive the request.
    Receive = 5,
    /// Restore the default signal dispositions.
    Dispositions = 6,
    /// Listen for the end of children.
    Listen = 7,
    /// Watch the owner; the error is `ESRCH` if it is gone.
    Owner = 8,
    /// Find the list of children.
    Children = 9,
    /// Make the process.
    Clone = 10,
    /// Make it the leader of a group.
    Group = 11,
    /// Give it its stdin.
    Stdin = 12,
    /// Go to its directory.
    Directory = 13,
    /// Unblock its signals.
    Unmask = 14,
    /// Execute the program.
    Exec = 15,
    /// Tell the owner of it.
    Tell = 16,
    /// Fill the places of streams that the owner has not.
    Streams = 17,
    /// See that `/proc` is that of the pid namespace; the error is `ESRCH` if it is another's.
    OwnProc = 18,
    /// Make a pid and a mount namespace.
    Namespace = 19,
    /// The same, and a user namespace, where the former is not permitted.
    UserNamespace = 20,
    /// Hear of the parent's end; the inner of two nannies ends with the outer one.
    Tie = 21,
    /// Map the user and the group into the user namespace.
    Map = 22,
    /// Keep the mounts apart.
    Mounts = 23,
    /// Mount a `/proc` for the pid namespace.
    MountProc = 24,
    /// Hand the terminal over.
    Terminal = 25,
}

/// What made the nanny kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Cause {
    /// Nothing: it has killed nobody.
    #[default]
    None = 0,
    /// The child had ended by itself.
    LeaderEnded = 1,
    GraceOver = 2,
    Ordered = 3,
    OwnerGone = 4,
}

/// How many numbers of processes a report names at most of each kind; the counts beside them go on.
pub(crate) const NAMED: usize = 8;

/// The most recent processes of a kind, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Some8 {
    pub(crate) count: u64,
    pub(crate) first: [u64; NAMED],
}

impl Some8 {
    #[cfg(any(nanny, test))]
    pub(crate) fn add(&mut self, pid: u64) {
        if let Some(free) = usize::try_from(self.count).ok().and_then(|at| self.first.get_mut(at)) {
            *free = pid;
        }
        self.count += 1;
    }

    #[cfg(not(nanny))]
    pub(crate) fn named(&self) -> &[u64] {
        let named = usize::try_from(self.count).unwrap_or(NAMED).min(NAMED);
        self.first.get(..named).unwrap_or(&[])
    }
}

/// Everything that the nanny knows. Instants are nanoseconds of the monotonic clock, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: Kind,
    pub(crate) leader: u64,
    /// Of a start that failed.
    pub(crate) step: Step,
    pub(crate) errno: u64,
    /// The child's end as `waitid` gives it: `si_code` and `si_status`.
    pub(crate) code: u64,
    pub(crate) status: u64,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) peak_kib: u64,
    pub(crate) ended_ns: u64,
    /// Whether the child ended only after everybody was asked, or killed.
    pub(crate) ended_after_signal: u64,
    pub(crate) asked_ns: u64,
    pub(crate) killed_ns: u64,
    pub(crate) killed_because: Cause,
    pub(crate) empty_ns: u64,
    /// Whether the control group was killed, so that nobody else is to be started in it.
    pub(crate) cgroup_killed: u64,
    /// Who was asked to end.
    pub(crate) asked: Some8,
    /// Who died of the kill.
    pub(crate) killed: Some8,
    /// Who is left: the children that outlived their kill.
    pub(crate) left: Some8,
    /// Why, for each of those named: the letter of its state, or `P` if it may not be signalled.
    pub(crate) why: [u64; NAMED],
    /// Members so deep in the tree, or found so hard to look at, that they were not asked, only killed.
    pub(crate) not_asked: u64,
}

const PLAIN: usize = 16;
const GROUP: usize = NAMED + 1;
const WORDS: usize = PLAIN + 3 * GROUP + NAMED + 1;

/// How many bytes a report takes.
pub(crate) const REPORT_BYTES: usize = WORDS * 8;

#[cfg(any(nanny, test))]
impl Report {
    pub(crate) fn encode(&self) -> [u8; REPORT_BYTES] {
        let mut bytes = [0; REPORT_BYTES];
        let mut places = bytes.chunks_exact_mut(8);
        let mut put = |word: u64| {
            if let Some(place) = places.next() {
                place.copy_from_slice(&word.to_ne_bytes());
            }
        };
        put(self.kind as u64);
        put(self.leader);
        put(self.step as u64);
        for word in [self.errno, self.code, self.status, self.user_us, self.system_us, self.peak_kib] {
            put(word);
        }
        put(self.killed_because as u64);
        for word in [self.ended_ns, self.ended_after_signal, self.asked_ns, self.killed_ns, self.empty_ns] {
            put(word);
        }
        put(self.cgroup_killed);
        for group in [&self.asked, &self.killed, &self.left] {
            put(group.count);
            group.first.iter().for_each(|pid| put(*pid));
        }
        self.why.iter().for_each(|why| put(*why));
        put(self.not_asked);
        bytes
    }
}

/// What only the owner needs.
#[cfg(not(nanny))]
impl Report {
    /// `None` if these bytes are no report.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REPORT_BYTES {
            return None;
        }
        let mut words =
            bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("a chunk of eight")));
        let mut take = || words.next().expect("as many words as were counted");
        let kind = Kind::from_word(take())?;
        let leader = take();
        let step = Step::from_word(take())?;
        let mut report = Self { kind, leader, step, ..Self::default() };
        for place in [
            &mut report.errno,
            &mut report.code,
            &mut report.status,
            &mut report.user_us,
            &mut report.system_us,
            &mut report.peak_kib,
        ] {
            *place = take();
        }
        report.killed_because = Cause::from_word(take())?;
        for place in [
            &mut report.ended_ns,
            &mut report.ended_after_signal,
            &mut report.asked_ns,
            &mut report.killed_ns,
            &mut report.empty_ns,
            &mut report.cgroup_killed,
        ] {
            *place = take();
        }
        for group in [&mut report.asked, &mut report.killed, &mut report.left] {
            group.count = take();
            group.first = std::array::from_fn(|_| take());
        }
        report.why = std::array::from_fn(|_| take());
        report.not_asked = take();
        Some(report)
    }
}

#[cfg(not(nanny))]
impl Kind {
    fn from_word(word: u64) -> Option<Self> {
        use Kind::{Empty, Going, NotStarted, Started};
        [Started, NotStarted, Going, Empty].into_iter().find(|kind| *kind as u64 == word)
    }
}

#[cfg(not(nanny))]
impl Cause {
    fn from_word(word: u64) -> Option<Self> {
        use Cause::{GraceOver, LeaderEnded, None, Ordered, OwnerGone};
        [None, LeaderEnded, GraceOver, Ordered, OwnerGone].into_iter().find(|cause| *cause as u64 == word)
    }
}

#[cfg(not(nanny))]
impl Step {
    const ALL: [Self; 25] = [
        Self::Mask,
        Self::Session,
        Self::Subreaper,
        Self::Close,
        Self::Receive,
        Self::Dispositions,
        Self::Listen,
        Self::Owner,
        Self::Children,
        Self::Clone,
        Self::Group,
        Self::Stdin,
        Self::Directory,
        Self::Unmask,
        Self::Exec,
        Self::Tell,
        Self::Streams,
        Self::OwnProc,
        Self::Namespace,
        Self::UserNamespace,
        Self::Tie,
        Self::Map,
        Self::Mounts,
        Self::MountProc,
        Self::Terminal,
    ];

    pub(crate) fn from_word(word: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u64 == word)
    }

    /// What was tried, for people.
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Mask => "block signals in the nanny",
            Self::Session => "give the nanny a session of its own",
            Self::Subreaper => "make the nanny a subreaper",
            Self::Close => "close what the nanny inherited",
            Self::Receive => "receive the request in the nanny",
            Self::Dispositions => "restore signal dispositions",
            Self::Listen => "listen for the end of children",
            Self::Owner => "watch the owner",
            Self::Children => "list the nanny's children",
            Self::Clone => "make a process",
            Self::Group => "give the child a group of its own",
            Self::Stdin => "give the child its stdin",
            Self::Directory => "enter the child's directory",
            Self::Unmask => "unblock the child's signals",
            Self::Exec => "execute the program",
            Self::Streams => "open /dev/null for a stream that the owner has closed",
            Self::Tell => "tell the owner that the program was started",
            Self::OwnProc => "find the nanny in /proc",
            Self::Namespace => "make a pid namespace",
            Self::UserNamespace => "make a pid namespace within a user namespace",
            Self::Tie => "have the nanny hear of its parent's end",
            Self::Map => "map the user into a user namespace",
            Self::Mounts => "keep the mounts of the namespace apart",
            Self::MountProc => "mount a /proc for the pid namespace",
            Self::Terminal => "hand the terminal over",
        }
    }
}

#[cfg(all(test, not(nanny)))]
mod tests {
    use super::*;

    #[test]
    fn what_the_owner_orders_is_what_the_nanny_reads() {
        let order = AskOrder { signal: 15, grace_ns: 0x0102_0304_0506_0708 };
        assert_eq!(AskOrder::decode(order.encode()), order);
    }

    #[test]
    fn what_the_nanny_writes_is_what_the_owner_reads() {
        let mut some = Some8::default();
        for pid in 100..100 + NAMED as u64 + 3 {
            some.add(pid);
        }
        let report = Report {
            kind: Kind::Going,
            leader: 1,
            step: Step::Exec,
            errno: 2,
            code: 3,
            status: 4,
            user_us: 5,
            system_us: 6,
            peak_kib: 7,
            ended_ns: 8,
            ended_after_signal: 9,
            asked_ns: 10,
            killed_ns: 11,
            killed_because: Cause::GraceOver,
            empty_ns: 12,
            cgroup_killed: 13,
            asked: some,
            killed: Some8 { count: 14, first: [15; NAMED] },
            left: Some8 { count: 16, first: [17; NAMED] },
            why: [18; NAMED],
            not_asked: 19,
        };
        assert_eq!(Report::decode(&report.encode()), Some(report));
        assert_eq!(some.named().len(), NAMED);
        assert_eq!(Report::decode(&report.encode()[1..]), None);
        assert_eq!(Report::decode(&[0xff; REPORT_BYTES]), None);
    }
}
