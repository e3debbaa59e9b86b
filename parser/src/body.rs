//! The lines of a body.

/// The lines of `body` in their order: split at `\n`, a trailing `\r` cut,
/// blank lines left out.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    Lines { rest: Some(body) }
}

/// How many lines [`lines`] will give. Looks at line ends only, so that it
/// stays a check on whoever handles the lines.
#[must_use]
pub fn count(body: &[u8]) -> u64 {
    let mut count = 0;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', body).chain(std::iter::once(body.len())) {
        let blank = end == start || (end == start + 1 && body[start] == b'\r');
        count += u64::from(!blank);
        start = end + 1;
    }
    count
}

struct Lines<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let Some(rest) = self.rest {
            let line = match memchr::memchr(b'\n', rest) {
                Some(end) => {
                    self.rest = Some(&rest[end + 1..]);
                    &rest[..end]
                }
                None => {
                    self.rest = None;
                    rest
                }
            };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_neither_given_nor_counted() {
        for (body, expected) in [
            ("", vec![]),
            ("a", vec!["a"]),
            ("a\nb", vec!["a", "b"]),
            ("a\r\nb\r\n", vec!["a", "b"]),
            ("\n\n\r\na\n\n", vec!["a"]),
            ("\r", vec![]),
            ("\r\r", vec!["\r"]),
            ("a\rb", vec!["a\rb"]),
            (" \n", vec![" "]),
        ] {
            let given: Vec<&[u8]> = lines(body.as_bytes()).collect();
            assert_eq!(given, expected.iter().map(|l| l.as_bytes()).collect::<Vec<_>>(), "{body:?}");
            assert_eq!(count(body.as_bytes()), given.len() as u64, "{body:?}");
        }
    }
}
