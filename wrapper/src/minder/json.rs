//! How durations and names are serialised.

use std::fmt::Display;
use std::time::Duration;

use serde::Serializer;

pub(super) fn ms<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64() * 1000.0)
}

pub(super) fn ms_if_any<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => ms(duration, to),
        None => to.serialize_none(),
    }
}

pub(super) fn text<T: Display, S: Serializer>(what: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(what)
}

pub(super) fn text_if_any<T: Display, S: Serializer>(what: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match what {
        Some(what) => text(what, to),
        None => to.serialize_none(),
    }
}
