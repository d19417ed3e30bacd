//! stub
/// stub
pub struct Generator;
impl Generator {
    /// s
    pub fn new(_: u64) -> Self {
        Self
    }
    /// s
    pub fn scenario(&self, _: u64) -> crate::scenario::Scenario {
        unimplemented!()
    }
}
