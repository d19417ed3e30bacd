//! What a script can hold, by the names that scripts use.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Visitor};

use super::{Place, Step, Then};

/// The names of all steps.
pub fn steps() -> &'static [&'static str] {
    variants::<Step>()
}

/// The names of all reactions to a signal.
pub fn reactions() -> &'static [&'static str] {
    variants::<Then>()
}

/// The names of all places where a node can stand.
pub fn places() -> &'static [&'static str] {
    variants::<Place>()
}

/// The names of an enum's variants. Whoever reads an enum is told them before there is anything to read.
fn variants<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Asked) {
        Err(Told::Variants(names)) => names,
        _ => &[],
    }
}

struct Asked;

#[derive(Debug)]
enum Told {
    Variants(&'static [&'static str]),
    Nothing,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing to read")
    }
}

impl std::error::Error for Told {}

impl serde::de::Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Nothing
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Told;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Told> {
        Err(Told::Variants(variants))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Told> {
        Err(Told::Nothing)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_scripts_use() {
        assert!(steps().contains(&"fork-at-rate") && steps().contains(&"hang"));
        assert!(reactions().contains(&"exit-slowly") && places().contains(&"own-session"));
    }
}
