//! Counting the host's handles, and its condition besides.

use fake_cli::control::Descriptor;

use super::*;

impl Runner<'_> {
    /// Counts the host's handles for each run that has ended, again until they have settled or the cap is reached.
    pub(super) fn count_handles(&mut self) {
        let now = Instant::now();
        for index in 0..self.runs.len() {
            let Some(pending) = &mut self.runs[index].inventory else { continue };
            if now < pending.next {
                continue;
            }
            let waited = now.saturating_duration_since(pending.since);
            let (spent, busy) = (pending.patience.turn(now), pending.busy);
            let last = spent >= busy + HANDLES_CAP;
            let counts_threads = spent < busy + THREADS_CAP;
            let seen = self.see_host();
            let settled = seen.as_ref().is_none_or(|seen| {
                self.has_settled(index, &seen.descriptors)
                    && self.is_as_before(seen, counts_threads)
                    && self.has_no_more(seen)
            });
            let settled = settled && self.has_no_more_tasks();
            if last || settled {
                self.runs[index].inventory = None;
                self.keep_inventory(Point::AfterRun(self.runs[index].number), seen.clone(), waited);
                self.keep_later_inventories(seen, waited);
            } else if let Some(pending) = &mut self.runs[index].inventory {
                pending.next = now + LOOK_AGAIN;
            }
        }
    }

    /// The host's handles before a run: a pipe that is among them was not made for the run.
    pub(super) fn count_handles_before(&mut self, run: u32) {
        // What the host said of its tasks was before this run.
        self.tasks = Tasks::default();
        let seen = self.see_host();
        if let (Some(seen), Some(run)) = (&seen, self.runs.last_mut()) {
            run.before = seen.descriptors.iter().map(|descriptor| descriptor.target.clone()).collect();
        }
        self.keep_inventory(Point::BeforeRun(run), seen, Duration::ZERO);
    }

    /// A host that is gone has no handles.
    fn see_host(&self) -> Option<HostSeen> {
        let host = self.host.as_ref().filter(|host| host.gone.is_none())?;
        Some(HostSeen {
            descriptors: scan::descriptors(host.pid).ok()?,
            condition: scan::condition(host.pid),
            zombies: self.counts_repeats().then(|| scan::zombies_of(host.pid)),
        })
    }

    /// Whether the case has so many runs that what grows with each of them shows.
    fn counts_repeats(&self) -> bool {
        let runs = self.case.scenario.ops.iter().filter(|op| op.verb == Verb::Run).count();
        runs >= crate::rules::REPEATS
    }

    /// Whether the host has no more zombies than after the first run: who is dead may be about to be reaped.
    fn has_no_more(&self, seen: &HostSeen) -> bool {
        let first = self.first_inventory().and_then(|first| first.zombies);
        first.zip(seen.zombies).is_none_or(|(first, now)| now <= first)
    }

    /// Whether the host has said that it has no more tasks than after the first run. Asks it, and if it has more, once again later.
    fn has_no_more_tasks(&mut self) -> bool {
        if !self.counts_repeats() || self.host_is_gone() {
            return true;
        }
        let first = self.first_inventory().and_then(|first| first.tasks);
        let settled = self.tasks.newest.is_some_and(|now| first.is_none_or(|first| now <= first));
        if !settled && !self.tasks.is_asked {
            self.tasks.is_asked = true;
            self.tell_host(&Order::CountTasks);
        }
        settled
    }

    fn first_inventory(&self) -> Option<&Inventory> {
        self.trace.inventories.iter().find(|inventory| matches!(inventory.point, Point::AfterRun(_)))
    }

    /// Whether the host's settings are those from before the first run, and its threads not more than after it. A thread that
    /// ends, or a mask that is put back, may be on its way.
    fn is_as_before(&self, seen: &HostSeen, counts_threads: bool) -> bool {
        let kept = |point: fn(Point) -> bool| {
            let inventory = self.trace.inventories.iter().find(|inventory| point(inventory.point));
            inventory.and_then(|inventory| inventory.condition.as_ref())
        };
        let Some(now) = &seen.condition else { return true };
        let first = kept(|point| matches!(point, Point::BeforeRun(_)));
        let warm = kept(|point| matches!(point, Point::AfterRun(_)));
        let grown = warm.is_some_and(|warm| now.threads.len() > warm.threads.len());
        first.is_none_or(|first| first.settings_as_in(now)) && !(counts_threads && grown)
    }

    /// Whether no pipe of a node is open in the host and the handles are not more than after the first run.
    fn has_settled(&self, index: usize, descriptors: &[Descriptor]) -> bool {
        let counted = |run: &&Run| run.number == self.runs[index].number || run.is_counted_later;
        let mut pipes = self.runs.iter().filter(counted).flat_map(|run| {
            self.nodes
                .iter()
                .filter(|node| node.hello.run == run.number)
                .flat_map(|node| &node.hello.descriptors)
                .filter(|descriptor| descriptor.fd <= 2 && descriptor.target.starts_with("pipe:"))
                .map(|descriptor| &descriptor.target)
                .filter(|target| !run.before.contains(*target))
        });
        let first =
            self.trace.inventories.iter().find(|inventory| matches!(inventory.point, Point::AfterRun(_)));
        let grown = first.is_some_and(|first| descriptors.len() > first.descriptors.len());
        !grown && !pipes.any(|target| descriptors.iter().any(|descriptor| descriptor.target == *target))
    }

    /// What is open now is what those runs have left that ended while others were under way.
    fn keep_later_inventories(&mut self, seen: Option<HostSeen>, waited: Duration) {
        for index in 0..self.runs.len() {
            if std::mem::take(&mut self.runs[index].is_counted_later) {
                self.keep_inventory(Point::AfterRun(self.runs[index].number), seen.clone(), waited);
            }
        }
    }

    fn keep_inventory(&mut self, point: Point, seen: Option<HostSeen>, waited: Duration) {
        let Some(HostSeen { descriptors, condition, zombies }) = seen else { return };
        let tasks = self.tasks.newest.filter(|_| matches!(point, Point::AfterRun(_)));
        self.trace.inventories.push(Inventory {
            at_us: self.now_us(),
            point,
            descriptors,
            zombies,
            tasks,
            threads: condition.as_ref().map_or(0, |condition| condition.threads.len() as u32),
            condition,
            settled_us: waited.as_micros() as u64,
        });
    }
}

/// What was seen of the host at one moment.
#[derive(Clone)]
struct HostSeen {
    descriptors: Vec<Descriptor>,
    condition: Option<Condition>,
    zombies: Option<u32>,
}
