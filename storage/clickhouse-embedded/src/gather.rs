//! Finds the statement of a request: in the URL, the body or a form, and where
//! an insert's data begins.
//!
//! Must stay true: no more than the bound of a statement is held in memory;
//! data of an insert is left in the body.

use std::io::Read;

use crate::body::exception_of;
use crate::exception::{Exception, code};
use crate::parameters::{Parameters, read_form};
use crate::statement::{Outline, outline};

/// How much of a body is read before the outline is looked at; doubled until
/// the head of an insert, or the statement, is whole.
const FIRST_BYTES: usize = 256 << 10;

/// The statement with whatever data of an insert came along.
pub(crate) struct Gathered {
    pub(crate) text: Vec<u8>,
    pub(crate) outline: Outline,
    /// The body is read to its end.
    pub(crate) complete: bool,
}

/// Reads as much of the body as the statement needs.
pub(crate) fn gather(
    body: &mut dyn Read,
    parameters: &mut Parameters,
    form: Option<&str>,
    bytes_max: usize,
) -> Result<Gathered, Exception> {
    if let Some(boundary) = form {
        let mut whole = Vec::new();
        if !fill(body, &mut whole, bytes_max)? {
            return Err(too_large(bytes_max));
        }
        read_form(&whole, boundary, parameters)?;
        let text = parameters.query.take().unwrap_or_default().into_bytes();
        let outline = outline(&text);
        return Ok(Gathered { text, outline, complete: true });
    }
    let mut text = parameters.query.take().unwrap_or_default().into_bytes();
    if text.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    let in_url = text.len();
    if in_url > 0 {
        text.push(b'\n');
    }
    let mut wanted = text.len() + FIRST_BYTES.min(bytes_max);
    loop {
        let complete = fill(body, &mut text, wanted)?;
        if complete && text.len() == in_url + 1 {
            // Only the URL spoke: its text stands as it was written.
            text.truncate(in_url);
        }
        let outline = outline(&text);
        let head_is_whole = match &outline {
            Outline::InsertData(insert) => insert.data_start < text.len(),
            _ => false,
        };
        if complete || head_is_whole {
            return Ok(Gathered { text, outline, complete });
        }
        if text.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        wanted = (2 * text.len()).min(bytes_max + 1);
    }
}

/// Reads until `wanted` bytes are there; true at the end of the body.
fn fill(body: &mut dyn Read, text: &mut Vec<u8>, wanted: usize) -> Result<bool, Exception> {
    let missing = (wanted + 1).saturating_sub(text.len());
    let read = body.take(missing as u64).read_to_end(text).map_err(|error| exception_of(&error))?;
    Ok(read < missing)
}

fn too_large(bytes_max: usize) -> Exception {
    Exception::new(
        code::QUERY_IS_TOO_LARGE,
        "QUERY_IS_TOO_LARGE",
        &format!(
            "the statement is larger than {bytes_max} bytes; data of an INSERT does not count, send it as such"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(url: &str, body: &[u8], bound: usize) -> Result<(Gathered, Vec<u8>), Exception> {
        let mut parameters = Parameters { query: Some(url.to_owned()), ..Parameters::default() };
        let mut body = body;
        let gathered = gather(&mut body, &mut parameters, None, bound)?;
        Ok((gathered, body.to_vec()))
    }

    #[test]
    fn data_of_an_insert_is_not_held() {
        let data = vec![b'\n'; 3 << 20];
        let (found, rest) = gathered("INSERT INTO t FORMAT RowBinary", &data, 1 << 20).unwrap();
        let Outline::InsertData(insert) = &found.outline else { panic!("{:?}", found.outline) };
        assert!(!found.complete);
        assert_eq!(found.text.len() - insert.data_start + rest.len(), data.len());
    }

    #[test]
    fn a_statement_past_the_bound_is_refused() {
        let long = [b"SELECT '".to_vec(), vec![b'x'; 2 << 20], b"'".to_vec()].concat();
        assert_eq!(gathered("", &long, 1 << 20).err().unwrap().code, code::QUERY_IS_TOO_LARGE);
        assert!(gathered("", &long, 3 << 20).unwrap().0.complete);
    }

    #[test]
    fn url_and_body_are_joined_by_a_line_end() {
        assert_eq!(gathered("SELECT", b"1", 1 << 20).unwrap().0.text, b"SELECT\n1");
        assert_eq!(gathered("SELECT 1", b"", 1 << 20).unwrap().0.text, b"SELECT 1");
    }
}
