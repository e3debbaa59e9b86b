//! The JSON values inside tracking lines.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The values of a `valuesCountMap`: its keys in the order of the text. `None`
/// when the text is not a JSON object.
#[must_use]
pub fn values(json: &str) -> Option<Vec<String>> {
    let Pairs::<IgnoredAny>(pairs) = serde_json::from_str(json).ok()?;
    Some(pairs.into_iter().map(|(key, _)| key).collect())
}

/// The `metadata` of a conversion: custom-data index → values. Of a repeated
/// index the first counts; a value that is not text is kept as its JSON, one
/// that is not in an array stands alone. `None` when the text is not a JSON
/// object with whole numbers as keys.
#[must_use]
pub fn metadata(json: &str) -> Option<BTreeMap<i32, Vec<String>>> {
    let Pairs::<serde_json::Value>(pairs) = serde_json::from_str(json).ok()?;
    let mut read = BTreeMap::new();
    for (key, value) in pairs {
        let index: i32 = key.parse().ok()?;
        let values = match value {
            serde_json::Value::Array(values) => values.into_iter().map(text).collect(),
            single => vec![text(single)],
        };
        read.entry(index).or_insert(values);
    }
    Some(read)
}

fn text(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A JSON object as pairs in the order of the text.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<V>(std::marker::PhantomData<V>);
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
        deserializer.deserialize_map(Collect(std::marker::PhantomData))
    }
}
