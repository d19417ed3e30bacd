//! How durations, names and counts are serialised.

#[cfg(feature = "agent")]
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use serde::Serializer;

pub(crate) fn ms<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64() * 1000.0)
}

pub(crate) fn ms_if_any<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => ms(duration, to),
        None => to.serialize_none(),
    }
}

pub(crate) fn text<T: Display, S: Serializer>(what: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(what)
}

pub(crate) fn text_if_any<T: Display, S: Serializer>(what: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match what {
        Some(what) => text(what, to),
        None => to.serialize_none(),
    }
}

/// Counts by what is counted, which is named as it is displayed.
#[cfg(feature = "agent")]
pub(crate) fn by_name<T: Display, S: Serializer>(
    counts: &BTreeMap<T, u64>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(counts.iter().map(|(what, count)| (what.to_string(), count)))
}
