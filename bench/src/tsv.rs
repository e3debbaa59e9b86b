//! Tab-separated values with ClickHouse's escapes.
//!
//! Duty: write and read one field or one row. What must stay true: reading gives back what was written, and reading
//! what ClickHouse writes as `TabSeparated` gives the value.

/// Appends a field.
pub fn push(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            other => out.push(other),
        }
    }
}

/// The fields of a row.
pub fn fields(row: &[u8]) -> Vec<Vec<u8>> {
    row.split(|byte| *byte == b'\t').map(unescape).collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'0') => 0,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(other) => *other,
            None => b'\\',
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_survives_writing_and_reading() {
        for value in ["", "plain", "tab\tline\nback\\slash", "O'Neil", "é\\x41\r"] {
            let mut row = Vec::new();
            push(value, &mut row);
            row.push(b'\t');
            assert_eq!(fields(&row), [value.as_bytes(), b""]);
        }
    }

    #[test]
    fn clickhouse_escapes_are_read() {
        assert_eq!(fields(br"O\'Neil	a\0b"), [b"O'Neil".as_slice(), b"a\0b"]);
    }
}
