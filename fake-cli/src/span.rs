//! Durations as text: `250ms`, `2s`, `1m30s`.
//!
//! Units are `us`, `ms`, `s`, `m` and `h`; a value is a whole number; parts run from the largest unit to
//! the smallest. `0s` is zero.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that is written and read as text, such as `250ms` or `1m30s`.
///
/// ```
/// # use fake_cli::span::Span;
/// let span: Span = "1m30s".parse().unwrap();
/// assert_eq!(span.to_string(), "1m30s");
/// assert_eq!(span.get().as_secs(), 90);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// Unit and its length in microseconds, from the largest to the smallest.
const UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The longest that the text form can hold.
    pub const MAX: Self = Self(Duration::from_micros(u64::MAX));

    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    /// Cuts off what is finer than a microsecond, which the text form cannot hold.
    fn from(duration: Duration) -> Self {
        Self(Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, micros) in UNITS {
            let count = rest / micros;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest -= count * micros;
            }
        }
        Ok(())
    }
}

/// A text that is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotASpan(String);

impl fmt::Display for NotASpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a duration; write it as 250ms, 2s or 1m30s", self.0)
    }
}

impl std::error::Error for NotASpan {}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let refused = || NotASpan(text.to_owned());
        let mut rest = text;
        let mut total: u64 = 0;
        let mut last_unit = u64::MAX;
        if rest.is_empty() {
            return Err(refused());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
            let count: u64 = rest[..digits].parse().map_err(|_| refused())?;
            let unit = &rest[digits..digits + letters];
            let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
            if *micros >= last_unit {
                return Err(refused());
            }
            last_unit = *micros;
            total =
                count.checked_mul(*micros).and_then(|part| total.checked_add(part)).ok_or_else(refused)?;
            rest = &rest[digits + letters..];
        }
        Ok(Self(Duration::from_micros(total)))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A duration, from the largest unit to the smallest: 250ms, 2s, 1m30s.",
            "type": "string",
            "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?$",
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for micros in [0, 1, 999, 1_000, 250_000, 1_500_000, 90_000_000, 3_600_000_001] {
            let span = Span::from(Duration::from_micros(micros));
            assert_eq!(span.to_string().parse(), Ok(span), "{span}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in
            ["", "5", "ms", "5 ms", "-1s", "1ms2s", "1s1s", "1.5s", "99999999999999999999s", "1d", "é"]
        {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
