//! Recorded requests of `tests/captures`.

use std::path::Path;

/// Headers that the sending client makes itself.
const OF_THE_CONNECTION: [&str; 3] = ["connection", "content-length", "accept-encoding"];

/// A recorded POST of tracking lines.
#[derive(Debug, Clone)]
pub struct Post {
    /// File that it was recorded in, without `.txt`.
    pub capture: String,
    /// Path and query.
    pub target: String,
    /// In the order of the wire, without those that the connection decides.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Every recorded `POST /visit/events`, in the order of names and time.
///
/// # Panics
/// When a capture cannot be read.
#[must_use]
pub fn posts() -> Vec<Post> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    names.sort();
    names
        .iter()
        .flat_map(|path| {
            let capture = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(path).unwrap();
            let blocks: Vec<String> = text.split("\n[+").skip(1).map(str::to_owned).collect();
            blocks.into_iter().filter_map(move |block| post(&capture, &block))
        })
        .collect()
}

/// A block: `0.53] POST https://host/target   -> 204`, headers, an empty line, the body.
fn post(capture: &str, block: &str) -> Option<Post> {
    let (first, rest) = block.split_once('\n')?;
    let (_, url) = first.split_once("] POST https://data.")?;
    let url = url.split_whitespace().next()?;
    let target = url[url.find('/')?..].to_owned();
    if !target.starts_with("/visit/events") {
        return None;
    }
    let (head, body) = rest.split_once("\n\n")?;
    let headers = head
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| !OF_THE_CONNECTION.iter().any(|own| own.eq_ignore_ascii_case(name)))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body: Vec<&str> =
        body.trim_end().lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    Some(Post { capture: capture.to_owned(), target, headers, body: body.join("\n") })
}
