//! How many cases it takes to see an animal, beside plainly drawn ones.

use serde::Serialize;

use super::{Entry, Search};

/// How many generated cases it takes to see an animal, and how many plainly drawn ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// How many animals are compared: all whose rule is run.
    pub animals: usize,
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

/// Compares what each animal took.
pub fn compare(animals: &[Entry]) -> Comparison {
    let compared: Vec<(Search, Search)> = animals
        .iter()
        .filter(|entry| entry.not_run.is_none())
        .filter_map(|entry| Some((Search { cases: entry.cases, tried: entry.tried }, entry.plain?)))
        .collect();
    let generated = median(compared.iter().map(|(generated, _)| *generated).collect());
    let plain = median(compared.iter().map(|(_, plain)| *plain).collect());
    let ratio = if generated.cases == 0 { 0.0 } else { plain.cases as f64 / generated.cases as f64 };
    Comparison { animals: compared.len(), generated, plain, ratio }
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
}
