//! User agents by pattern: `*` stands for anything, case does not matter.

/// What is looked at of a text: senders choose how long it is.
const TEXT_BYTES_MAX: usize = 1024;

/// A pattern for the whole of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.bytes().map(|byte| byte.to_ascii_lowercase()).collect())
    }

    /// Takes at most pattern times text steps.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let text = &text[..text.len().min(TEXT_BYTES_MAX)];
        let pattern = &self.0[..];
        let (mut at, mut seen) = (0, 0);
        // The last `*`, and how much of the text it stands for so far.
        let mut star = None;
        while seen < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(byte) if *byte == text[seen].to_ascii_lowercase() => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((star_at, covered)) = star else { return false };
                    star = Some((star_at, covered + 1));
                    (at, seen) = (star_at + 1, covered + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain twin: tries every length for every `*`.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|from| plainly(rest, &text[from..])),
            Some((byte, rest)) => {
                text.split_first().is_some_and(|(first, tail)| first == byte && plainly(rest, tail))
            }
        }
    }

    #[test]
    fn a_star_stands_for_anything_and_case_does_not_matter() {
        assert!(Pattern::new("*BadBot/*").matches(b"Mozilla/5.0 (compatible; badbot/2.1)"));
        assert!(Pattern::new("curl/8.5.0").matches(b"curl/8.5.0"));
        assert!(!Pattern::new("curl").matches(b"curl/8.5.0"));
        assert!(Pattern::new("").matches(b"") && !Pattern::new("").matches(b"x"));
    }

    proptest! {
        #[test]
        fn the_quick_way_and_the_plain_way_agree(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let quick = Pattern::new(&pattern).matches(text.as_bytes());
            prop_assert_eq!(quick, plainly(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
