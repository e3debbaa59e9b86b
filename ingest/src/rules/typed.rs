//! Values of the rules' file, refused with their line, their key and what is expected in
//! words of that file.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use fanal_service::config::{ConfigError, parse};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a file's text, or says where it is wrong and what is expected there.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    parse(Path::new(""), text).map_err(|error| match error {
        ConfigError::Invalid { line, key: Some(key), reason, .. } => {
            format!("line {line}, key `{key}`: {reason}")
        }
        ConfigError::Invalid { line, key: None, reason, .. } => format!("line {line}: {reason}"),
        other => other.to_string(),
    })
}

/// A whole number or one with a fraction.
pub(super) fn number<'de, D: Deserializer<'de>>(de: D) -> Result<f64, D::Error> {
    struct Number;
    #[expect(clippy::cast_precision_loss, reason = "rates that large are refused")]
    impl Visitor<'_> for Number {
        type Value = f64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number without quotes, such as 100 or 0.5")
        }

        fn visit_f64<E>(self, number: f64) -> Result<f64, E> {
            Ok(number)
        }

        fn visit_i64<E>(self, number: i64) -> Result<f64, E> {
            Ok(number as f64)
        }

        fn visit_u64<E>(self, number: u64) -> Result<f64, E> {
            Ok(number as f64)
        }
    }
    de.deserialize_any(Number)
}

pub(super) fn text<'de, D: Deserializer<'de>>(de: D) -> Result<String, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text in quotes, such as \"abcdefghij\"")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    de.deserialize_any(Text)
}

pub(super) fn optional_text<'de, D: Deserializer<'de>>(de: D) -> Result<Option<String>, D::Error> {
    text(de).map(Some)
}

/// All quotas, or all kill rules.
pub(super) fn entries<'de, T: Deserialize<'de>, D: Deserializer<'de>>(de: D) -> Result<Vec<T>, D::Error> {
    struct Entries<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a header in double brackets for each, such as [[quota]] or [[rule]]")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, entries: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(entries))
        }
    }
    de.deserialize_any(Entries(PhantomData))
}
