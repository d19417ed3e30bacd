//! Counting the host's handles.

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
            let (last, number) = (now >= pending.until, self.runs[index].number);
            let settled = self.handles_settled(index);
            if last || settled || self.host_is_gone() {
                self.runs[index].inventory = None;
                self.take_inventory(Point::AfterRun(number));
            } else if let Some(pending) = &mut self.runs[index].inventory {
                pending.next = now + LOOK_AGAIN;
            }
        }
    }

    /// Whether no pipe of a node is open in the host and the handles are not more than after the first run.
    pub(super) fn handles_settled(&self, index: usize) -> bool {
        let Some(pid) = self.host.as_ref().map(|host| host.pid) else { return true };
        let Ok(now) = scan::descriptors(pid) else { return true };
        let run = &self.runs[index];
        let mut pipes = self
            .nodes
            .iter()
            .filter(|node| node.hello.run == run.number)
            .flat_map(|node| &node.hello.descriptors)
            .filter(|descriptor| descriptor.fd <= 2 && descriptor.target.starts_with("pipe:"))
            .map(|descriptor| &descriptor.target)
            .filter(|target| !run.before.contains(*target));
        let first =
            self.trace.inventories.iter().find(|inventory| matches!(inventory.point, Point::AfterRun(_)));
        let grown = first.is_some_and(|first| now.len() > first.descriptors.len());
        !grown && !pipes.any(|target| now.iter().any(|descriptor| descriptor.target == *target))
    }

    pub(super) fn take_inventory(&mut self, point: Point) {
        let Some(pid) = self.host.as_ref().map(|host| host.pid) else { return };
        // A host that is gone has no handles.
        let Ok(descriptors) = scan::descriptors(pid) else { return };
        if let Point::BeforeRun(_) = point
            && let Some(run) = self.runs.last_mut()
        {
            run.before = descriptors.iter().map(|descriptor| descriptor.target.clone()).collect();
        }
        let inventory = Inventory { at_us: self.now_us(), point, descriptors, threads: scan::threads(pid) };
        self.trace.inventories.push(inventory);
    }
}
