//! The `headcount` command.
fn main() {
    headcount::reentry::reenter(headcount::subjects::in_rust);
}
