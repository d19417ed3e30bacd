//! Counting the host's handles.

use fake_cli::control::Descriptor;

use super::*;

impl Runner<'_> {
    /// Counts the host's handles for each run that has ended, again until they have settled or the cap is reached.
    pub(super) fn count_handles(&mut self) {
        let now = Instant::now();
        for index in 0..self.runs.len() {
            let Some(pending) = &self.runs[index].inventory else { continue };
            if now < pending.next {
                continue;
            }
            let last = now >= pending.until;
            let descriptors = self.host_descriptors();
            let settled = descriptors.as_ref().is_none_or(|descriptors| self.has_settled(index, descriptors));
            if last || settled {
                self.runs[index].inventory = None;
                self.keep_inventory(Point::AfterRun(self.runs[index].number), descriptors.clone());
                self.keep_later_inventories(descriptors);
            } else if let Some(pending) = &mut self.runs[index].inventory {
                pending.next = now + LOOK_AGAIN;
            }
        }
    }

    /// The host's handles before a run: a pipe that is among them was not made for the run.
    pub(super) fn count_handles_before(&mut self, run: u32) {
        let descriptors = self.host_descriptors();
        if let (Some(descriptors), Some(run)) = (&descriptors, self.runs.last_mut()) {
            run.before = descriptors.iter().map(|descriptor| descriptor.target.clone()).collect();
        }
        self.keep_inventory(Point::BeforeRun(run), descriptors);
    }

    /// A host that is gone has no handles.
    fn host_descriptors(&self) -> Option<Vec<Descriptor>> {
        scan::descriptors(self.host.as_ref().filter(|host| host.gone.is_none())?.pid).ok()
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
    fn keep_later_inventories(&mut self, descriptors: Option<Vec<Descriptor>>) {
        for index in 0..self.runs.len() {
            if std::mem::take(&mut self.runs[index].is_counted_later) {
                self.keep_inventory(Point::AfterRun(self.runs[index].number), descriptors.clone());
            }
        }
    }

    fn keep_inventory(&mut self, point: Point, descriptors: Option<Vec<Descriptor>>) {
        let (Some(descriptors), Some(host)) = (descriptors, &self.host) else { return };
        let inventory =
            Inventory { at_us: self.now_us(), point, descriptors, threads: scan::threads(host.pid) };
        self.trace.inventories.push(inventory);
    }
}
