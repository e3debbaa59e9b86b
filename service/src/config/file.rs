//! Reads one TOML file into a type, with errors that point at the place.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// The largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {file}: {source}; give the path of a configuration file that this user may read")]
    Read { file: PathBuf, source: io::Error },
    #[error("{file} is larger than {FILE_BYTES_MAX} bytes, which no configuration is; check the path")]
    TooLarge { file: PathBuf },
    #[error("{file}, line {line}{}: {reason}; `fanal config reference` lists every key", key_part(.key))]
    Invalid { file: PathBuf, line: usize, key: Option<String>, reason: String },
}

fn key_part(key: &Option<String>) -> String {
    key.as_ref().map(|key| format!(", key `{key}`")).unwrap_or_default()
}

/// Reads the file into `T`, which should carry `#[serde(deny_unknown_fields)]`.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    let failed = |source| ConfigError::Read { file: file.to_owned(), source };
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { file: file.to_owned() });
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    parse(file, &text)
}

/// Reads `text`; `file` stands in errors.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..at).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        ConfigError::Invalid {
            file: file.to_owned(),
            line,
            key: key_at(text, line),
            reason: error.message().trim().replace('\n', "; "),
        }
    })
}

/// The full name of the key on this line: the table above it and the part left of `=`.
fn key_at(text: &str, line: usize) -> Option<String> {
    let mut table = String::new();
    let mut key = None;
    for text_line in text.lines().take(line) {
        let trimmed = text_line.trim();
        key = None;
        if let Some(header) = trimmed.strip_prefix('[') {
            table = header.split(']').next().unwrap_or("").trim_start_matches('[').trim().to_owned();
            key = Some(table.clone());
        } else if let Some((name, _)) = trimmed.split_once('=')
            && !trimmed.starts_with('#')
        {
            let name = name.trim();
            key = Some(if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") });
        }
    }
    key.filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(default)]
        http: Http,
    }

    #[derive(Debug, Deserialize, Default)]
    #[serde(deny_unknown_fields)]
    struct Http {
        #[serde(default, with = "crate::config::byte_size")]
        body_bytes_max: Option<fanal_model::ByteSize>,
        listen: Option<crate::config::ListenAddress>,
    }

    fn error(text: &str) -> String {
        parse::<Example>(Path::new("fanal.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = error("# top\n[http]\nbody_bytes_mx = \"4MiB\"\n");
        for part in ["fanal.toml, line 3", "http.body_bytes_mx", "body_bytes_max", "config reference"] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn a_wrong_value_is_shown_with_an_example_of_a_right_one() {
        let text = error("[http]\nbody_bytes_max = \"4 megs\"\n");
        assert!(text.contains("line 2, key `http.body_bytes_max`") && text.contains("4MiB"), "{text}");
        let text = error("[http]\nlisten = \"localhost\"\n");
        assert!(text.contains("127.0.0.1:8080"), "{text}");
        let text = error("[http\n");
        assert!(text.contains("line 1"), "{text}");
    }

    #[test]
    fn right_values_are_read() {
        let read: Example =
            parse(Path::new("x"), "[http]\nbody_bytes_max = \"1MiB\"\nlisten = \"127.0.0.1:80\"").unwrap();
        assert_eq!(read.http.body_bytes_max, Some(fanal_model::ByteSize(1 << 20)));
        assert_eq!(read.http.listen.unwrap().0.port(), 80);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = super::read::<Example>(Path::new("/nowhere/fanal.toml")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/fanal.toml"), "{error}");
    }
}
