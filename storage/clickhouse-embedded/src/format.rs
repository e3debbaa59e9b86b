//! What the front must know of output formats: their content type, and whether
//! pieces of an answer can be joined.
//!
//! The engine writes every streamed piece as a whole document. Pieces of a
//! plain row format can be joined as they are; a format with a header repeats
//! it, so the header of later pieces is cut off; any other format (JSON,
//! Parquet, Pretty) is written to a file as one document and sent from there.

/// How streamed pieces of a format become one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// Pieces follow each other as they are.
    Plain,
    /// Each piece begins with the same number of text lines.
    Lines(usize),
    /// Each piece begins with CSV records, which may hold quoted line ends.
    CsvRecords(usize),
    /// Each piece begins with a count of columns and one or two texts for each.
    Binary { texts_per_column: usize },
    /// Not joinable: one document.
    Document,
}

/// How pieces of the named format are joined.
pub(crate) fn joining(format: &str) -> Joining {
    match format.to_ascii_lowercase().as_str() {
        "tsv"
        | "tabseparated"
        | "tsvraw"
        | "tabseparatedraw"
        | "raw"
        | "csv"
        | "rowbinary"
        | "native"
        | "jsoneachrow"
        | "jsonlines"
        | "ndjson"
        | "jsonstringseachrow"
        | "jsoncompacteachrow"
        | "jsoncompactstringseachrow"
        | "tskv"
        | "lineasstring" => Joining::Plain,
        "tsvwithnames"
        | "tabseparatedwithnames"
        | "jsoncompacteachrowwithnames"
        | "jsoncompactstringseachrowwithnames" => Joining::Lines(1),
        "tsvwithnamesandtypes"
        | "tabseparatedwithnamesandtypes"
        | "jsoncompacteachrowwithnamesandtypes"
        | "jsoncompactstringseachrowwithnamesandtypes" => Joining::Lines(2),
        "csvwithnames" => Joining::CsvRecords(1),
        "csvwithnamesandtypes" => Joining::CsvRecords(2),
        "rowbinarywithnames" => Joining::Binary { texts_per_column: 1 },
        "rowbinarywithnamesandtypes" => Joining::Binary { texts_per_column: 2 },
        _ => Joining::Document,
    }
}

impl Joining {
    /// Length of the header at the start of a piece; `None` if it is not whole.
    pub(crate) fn header_bytes(self, piece: &[u8]) -> Option<usize> {
        match self {
            Self::Plain | Self::Document => Some(0),
            Self::Lines(lines) => {
                let end = memchr::memchr_iter(b'\n', piece).nth(lines.checked_sub(1)?)?;
                Some(end + 1)
            }
            Self::CsvRecords(records) => csv_records_bytes(piece, records),
            Self::Binary { texts_per_column } => binary_header_bytes(piece, texts_per_column),
        }
    }
}

fn csv_records_bytes(piece: &[u8], mut records: usize) -> Option<usize> {
    let mut quoted = false;
    for (index, byte) in piece.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => {
                records -= 1;
                if records == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn binary_header_bytes(piece: &[u8], texts_per_column: usize) -> Option<usize> {
    let mut at = 0;
    let columns = variable_length(piece, &mut at)?;
    for _ in 0..columns.checked_mul(texts_per_column)? {
        let length = variable_length(piece, &mut at)?;
        at = at.checked_add(length).filter(|at| *at <= piece.len())?;
    }
    Some(at)
}

/// An unsigned integer of seven bits a byte.
fn variable_length(piece: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let byte = *piece.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Content type as the ClickHouse server names it.
pub(crate) fn content_type(format: &str) -> &'static str {
    let name = format.to_ascii_lowercase();
    match name.as_str() {
        "jsoneachrow" | "jsonlines" | "ndjson" => "application/x-ndjson; charset=UTF-8",
        "csv" => "text/csv; charset=UTF-8; header=absent",
        "csvwithnames" | "csvwithnamesandtypes" => "text/csv; charset=UTF-8; header=present",
        "xml" => "application/xml; charset=UTF-8",
        "markdown" => "text/markdown; charset=UTF-8",
        _ if name.starts_with("json") => "application/json; charset=UTF-8",
        _ if name.starts_with("tsv") || name.starts_with("tabseparated") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        "native" | "parquet" | "arrow" | "arrowstream" | "orc" | "avro" | "msgpack" | "npy"
        | "bsoneachrow" => "application/octet-stream",
        _ if name.starts_with("rowbinary") || name.starts_with("protobuf") => "application/octet-stream",
        _ => "text/plain; charset=UTF-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_ends_where_the_rows_begin() {
        let cases: [(Joining, &[u8], Option<usize>); 8] = [
            (Joining::Plain, b"1\n", Some(0)),
            (Joining::Lines(2), b"a\nInt8\n1\n", Some(7)),
            (Joining::Lines(2), b"a\nInt8", None),
            (Joining::CsvRecords(1), b"\"a\nb\"\"\n\",c\n1,2\n", Some(11)),
            (Joining::Binary { texts_per_column: 2 }, b"\x01\x01a\x04Int8\x07", Some(8)),
            (Joining::Binary { texts_per_column: 1 }, b"\x02\x01a\x01b\x07", Some(5)),
            (Joining::Binary { texts_per_column: 2 }, b"\x01\x01a\x7f", None),
            (Joining::Binary { texts_per_column: 1 }, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", None),
        ];
        for (joining, piece, expected) in cases {
            assert_eq!(joining.header_bytes(piece), expected, "{joining:?}");
        }
    }
}
