//! How many cases it takes to see an animal, beside plainly drawn ones.

use serde::Serialize;

use super::{Entry, Search};

/// How many generated cases it takes to see an animal, and how many plainly drawn ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// How many animals are compared: those whose rule is run and that were looked for in both ways, until they were seen or had all
    /// their cases.
    pub animals: usize,
    /// How many were not looked for to the end: the time was over.
    pub left_out: usize,
    /// Of generated cases.
    pub generated: Median,
    /// Of plainly drawn ones.
    pub plain: Median,
    /// The plain median over the other one. Where either is only a bound, so is this.
    pub ratio: f64,
}

/// The case in the middle, of those that were the first to show their animal. One that none showed counts as one more than it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Median {
    /// So many cases.
    pub cases: u64,
    /// Whether it stands among those that none showed: it would have been more cases.
    pub at_least: bool,
    /// How many animals none showed.
    pub never: usize,
}

/// Compares what each animal took in its first look: whoever was seen only when it was looked at again had more tries than the plainly
/// drawn cases had.
pub fn compare(animals: &[Entry]) -> Comparison {
    let looked_for = animals.iter().filter(|entry| entry.not_run.is_none() && entry.plain.is_some());
    let (compared, left_out): (Vec<&Entry>, Vec<&Entry>) = looked_for.partition(|entry| {
        let is_done = |search: Search| search.is_done(entry.asked.cases) && search.tried > 0;
        is_done(entry.first) && entry.plain.is_some_and(is_done)
    });
    let compared: Vec<(Search, Search)> =
        compared.into_iter().filter_map(|entry| Some((entry.first, entry.plain?))).collect();
    let generated = median(compared.iter().map(|(generated, _)| *generated).collect());
    let plain = median(compared.iter().map(|(_, plain)| *plain).collect());
    let ratio = if generated.cases == 0 { 0.0 } else { plain.cases as f64 / generated.cases as f64 };
    Comparison { animals: compared.len(), left_out: left_out.len(), generated, plain, ratio }
}

fn median(mut searches: Vec<Search>) -> Median {
    let until = |search: &Search| search.cases.unwrap_or(search.tried + 1);
    searches.sort_by_key(|search| (until(search), search.cases.is_none()));
    let never = searches.iter().filter(|search| search.cases.is_none()).count();
    // The lower one of two in the middle: it is one that was seen.
    match searches.get(searches.len().saturating_sub(1) / 2) {
        Some(middle) => Median { cases: until(middle), at_least: middle.cases.is_none(), never },
        None => Median { cases: 0, at_least: false, never },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{caught, unseen};
    use super::*;

    fn searches(cases: &[u64], never: usize) -> Vec<Search> {
        let seen = cases.iter().map(|&cases| Search { cases: Some(cases), tried: cases });
        seen.chain(vec![Search { cases: None, tried: 150 }; never]).collect()
    }

    #[test]
    fn the_median_is_the_case_in_the_middle() {
        assert_eq!(median(searches(&[9, 1, 4], 0)), Median { cases: 4, at_least: false, never: 0 });
        assert_eq!(median(searches(&[9, 4], 0)).cases, 4);
        assert_eq!(median(Vec::new()).cases, 0);
    }

    #[test]
    fn one_that_none_showed_counts_as_one_more_than_it_got_and_is_told() {
        assert_eq!(median(searches(&[3, 20], 1)), Median { cases: 20, at_least: false, never: 1 });
        assert_eq!(median(searches(&[3], 2)), Median { cases: 151, at_least: true, never: 2 });
    }

    #[test]
    fn compared_is_the_first_look_of_those_that_were_looked_for_to_the_end_in_both_ways() {
        let plain = |cases, tried| Some(Search { cases, tried });
        let seen = Entry { plain: plain(Some(30), 36), ..caught("seen") };
        // Seen in a second look, when the first had all its cases.
        let again = Entry { plain: plain(Some(60), 60), ..unseen("again", 150).and_again(caught("again")) };
        let neither = Entry { plain: plain(None, 150), ..unseen("neither", 150) };
        let late = Entry { plain: plain(None, 12), ..caught("late") };
        let never_begun = Entry { plain: plain(None, 0), ..unseen("never-begun", 0) };
        let not_run = Entry { not_run: Some("not built".to_owned()), ..neither.clone() };
        let compared = compare(&[seen, again, neither, late, never_begun, not_run]);
        assert_eq!((compared.animals, compared.left_out), (3, 2));
        assert_eq!(compared.generated, Median { cases: 151, at_least: true, never: 2 });
        assert_eq!(compared.plain, Median { cases: 60, at_least: false, never: 1 });
    }
}
