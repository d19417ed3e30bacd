//! stub
use crate::promises::Promises;
use crate::subject::{Job, Subject};
use crate::trace::Outcome;
#[derive(Default)]
pub(super) struct Minded {}
impl Subject for Minded {
    fn promises(&self) -> Promises {
        Promises::default()
    }
    async fn run(&self, _: Job) -> Outcome {
        std::future::pending().await
    }
}
