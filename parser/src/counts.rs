//! The JSON values inside tracking lines.
//!
//! Reads what scripts write even where it is no proper text: half of a surrogate
//! pair becomes U+FFFD instead of losing the whole object. Follows no nesting.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values of a `valuesCountMap`: its keys in the order of the text. `None`
/// when the text is not a JSON object.
#[must_use]
pub fn values(json: &str) -> Option<Vec<String>> {
    let Pairs::<IgnoredAny>(pairs) = serde_json::from_str(json).ok()?;
    Some(pairs.into_iter().map(|(key, _)| key.0).collect())
}

/// The `metadata` of a conversion: custom-data index → values. Of a repeated
/// index the first counts; a value that is not text is kept as its JSON, one
/// that is not in an array stands alone. `None` when the text is not a JSON
/// object with whole numbers as keys.
#[must_use]
pub fn metadata(json: &str) -> Option<BTreeMap<i32, Vec<String>>> {
    let Pairs::<&RawValue>(pairs) = serde_json::from_str(json).ok()?;
    let mut read = BTreeMap::new();
    for (key, value) in pairs {
        let index: i32 = key.0.parse().ok()?;
        let values = match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(values) => values.into_iter().map(text).collect(),
            Err(_) => vec![text(value)],
        };
        read.entry(index).or_insert(values);
    }
    Some(read)
}

fn text(value: &RawValue) -> String {
    serde_json::from_str(value.get()).map_or_else(|_| value.get().to_owned(), |Text(text)| text)
}

/// A JSON string, with U+FFFD for what is not Unicode.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON string")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// A JSON object as pairs in the order of the text.
struct Pairs<V>(Vec<(Text, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Collect<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs<V>, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_the_keys_in_the_order_of_the_text() {
        for (json, expected) in [
            (r#"{"gold":1,"a,b;c\"d'e":1}"#, Some(vec!["gold", "a,b;c\"d'e"])),
            (r#"{"z":1,"a":2,"m":{}}"#, Some(vec!["z", "a", "m"])),
            (r#" {"\u00e9l\u00e8ve":1} "#, Some(vec!["élève"])),
            ("{}", Some(vec![])),
            ("", None),
            ("[]", None),
            ("\"gold\"", None),
            (r#"{"gold":1"#, None),
            (r#"{"gold":1} x"#, None),
        ] {
            let expected = expected.map(|e| e.into_iter().map(str::to_owned).collect());
            assert_eq!(values(json), expected, "{json}");
        }
    }

    #[test]
    fn half_a_character_does_not_lose_the_other_values() {
        let read = values(r#"{"gold":1,"\ud83d":1,"\ud83d\ude00":1}"#).unwrap();
        assert_eq!((read.len(), &*read[0], &*read[2]), (3, "gold", "😀"));
        assert!(read[1].contains('\u{FFFD}'));
        let read = metadata(r#"{"1":["\udc00","x"]}"#).unwrap();
        assert_eq!((read[&1].len(), &*read[&1][1]), (2, "x"));
    }

    #[test]
    fn metadata_keeps_the_first_of_an_index_and_writes_other_values_as_json() {
        let read = metadata(r#"{"2":["x"],"1":["a&b=c",7,true,null,{"k":[1]}],"-1":"alone","2":["y"]}"#);
        let expected = BTreeMap::from([
            (-1, vec!["alone".to_owned()]),
            (1, ["a&b=c", "7", "true", "null", r#"{"k":[1]}"#].map(str::to_owned).to_vec()),
            (2, vec!["x".to_owned()]),
        ]);
        assert_eq!(read, Some(expected));
        for json in ["", "[]", r#"{"a":["x"]}"#, r#"{"4294967296":[]}"#, r#"{"1":["x"]"#] {
            assert_eq!(metadata(json), None, "{json}");
        }
    }

    #[test]
    fn deep_json_is_skipped_not_followed() {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(values(&format!(r#"{{"a":{open}{close}}}"#)), Some(vec!["a".to_owned()]));
        let read = metadata(&format!(r#"{{"1":{open}{close}}}"#)).unwrap();
        assert_eq!(read[&1], [format!("{}{}", &open[1..], &close[1..])]);
    }
}
