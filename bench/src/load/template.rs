//! Requests made once, with places for nonces and visitors.
//!
//! Duty: bytes of a complete HTTP/1.1 request as a browser's SDK sends it. What must stay true: overwriting changes no
//! length, so that `Content-Length` holds.

use crate::random::{Random, mix};
use std::ops::Range;

/// How lines are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// One line in the query.
    Get,
    /// Lines in the body.
    Post,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";
const BLANK: &str = "0000000000000000";
const AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";

/// What a browser sends beside host and connection.
const HEADERS: [(&str, &str); 9] = [
    ("User-Agent", AGENT),
    ("Accept", "*/*"),
    ("Origin", "https://www.shop.example"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Mode", "cors"),
    ("Sec-Fetch-Dest", "empty"),
    ("Referer", "https://www.shop.example/"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9"),
];

/// One request's bytes.
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where the 16 characters of each line's nonce start.
    nonces: Vec<usize>,
    visitors: Vec<usize>,
    path: Range<usize>,
    /// Names in lower case, without those that belong to a connection.
    headers: Vec<(String, String)>,
}

impl Template {
    /// A request of `lines` lines to a site.
    pub(super) fn new(method: Method, host: &str, site: &str, lines: u32, random: &mut Random) -> Self {
        let lines: Vec<String> = (0..lines).map(|at| line(at, lines, random)).collect();
        let body = lines.join("\n");
        let lines_of_headers: String =
            HEADERS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let headers = format!("Host: {host}\r\nConnection: keep-alive\r\n{lines_of_headers}");
        let text = match method {
            Method::Get => format!("GET /visit/events?siteCode={site}&{body} HTTP/1.1\r\n{headers}\r\n"),
            Method::Post => format!(
                "POST /visit/events?siteCode={site}&sdkName=javascript&sdkVersion=4.17.1 HTTP/1.1\r\n{headers}\
                 Content-Type: */*\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        };
        let places = |name: &str| -> Vec<usize> {
            let pattern = format!("{name}{BLANK}");
            text.match_indices(&pattern).map(|(at, _)| at + name.len()).collect()
        };
        let (nonces, visitors) = (places("nonce="), places("visitorCode="));
        let path = text.find(' ').map_or(0, |at| at + 1)..text.find(" HTTP/1.1").unwrap_or(0);
        let headers = HEADERS.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).to_vec();
        Self { bytes: text.into_bytes(), nonces, visitors, path, headers }
    }

    /// Makes the request the `number`th of its seed, from one visitor of `visitors`.
    pub(super) fn fill(&mut self, seed: u64, number: u64, visitors: u32) {
        let visitor = mix(seed ^ 0xA5A5 ^ ((number % u64::from(visitors)) << 20));
        for at in &self.visitors {
            put(&mut self.bytes, *at, visitor, HEX_LOWER);
        }
        let first = mix(seed).wrapping_add(number.wrapping_mul(self.nonces.len() as u64));
        for (at, place) in self.nonces.iter().enumerate() {
            // A permutation of distinct numbers, so no nonce comes twice in a run.
            put(&mut self.bytes, *place, mix(first.wrapping_add(at as u64)), HEX);
        }
    }

    /// The request as it goes onto the wire.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Path and query.
    pub(super) fn path(&self) -> &[u8] {
        &self.bytes[self.path.clone()]
    }

    /// Headers as HTTP/2 has them.
    pub(super) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Appends `visitor<TAB>nonce<LF>` of each line.
    pub(super) fn append_keys(&self, out: &mut Vec<u8>) {
        for (nonce, visitor) in self.nonces.iter().zip(&self.visitors) {
            out.extend_from_slice(&self.bytes[*visitor..visitor + 16]);
            out.push(b'\t');
            out.extend_from_slice(&self.bytes[*nonce..nonce + 16]);
            out.push(b'\n');
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: u64, hex: &[u8; 16]) {
    for (place, shift) in bytes[at..at + 16].iter_mut().zip((0..16).rev()) {
        *place = hex[((value >> (shift * 4)) & 15) as usize];
    }
}

/// A line of the browser SDK; the last one of a longer body is the combined static line, as that SDK ends its bodies.
fn line(at: u32, lines: u32, random: &mut Random) -> String {
    let n = random.below(1000);
    let event = match at % 8 {
        _ if lines > 1 && at + 1 == lines => {
            "staticData&browser=CHROME&browserIndex=0&browserVersion=141&visitNumber=0&timeSincePreviousVisit=0\
             &os=LINUX&osIndex=3&deviceType=DESKTOP"
                .to_owned()
        }
        1 => format!("experiment&id={}&variationId={}", 1000 + n % 9, n % 3),
        2 => format!("customData&index={}&valuesCountMap=%7B%22gold%22%3A1%7D&overwrite=true", n % 9 + 1),
        3 => format!("conversion&goalId={}&revenue={n}.25&negative=false", 9000 + n % 5),
        4 => format!("targetingSegment&id={}", 500 + n % 20),
        _ => format!(
            "page&href=https%3A%2F%2Fwww.shop.example%2Fproducts%2Fwomen%2Fshoes%2Fautumn%2F{n}\
             %3Fcolour%3Dred%26size%3D42%26utm_source%3Dnewsletter%26utm_medium%3Demail%26utm_campaign%3Dautumn-sale\
             &title=Red%20autumn%20shoes%20in%20size%2042%20%E2%80%93%20The%20Shop&referrersIndices=%5B2%2C5%5D"
        ),
    };
    format!("eventType={event}&nonce={BLANK}&visitorCode={BLANK}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn filling_keeps_the_length_and_repeats_no_nonce() {
        let mut template = Template::new(Method::Post, "h", "site", 10, &mut Random::new(1));
        let length = template.bytes().len();
        let mut keys = Vec::new();
        for number in 0..1_000 {
            template.fill(7, number, 100);
            template.append_keys(&mut keys);
        }
        assert_eq!(template.bytes().len(), length);
        let text = String::from_utf8(keys).unwrap();
        let nonces: HashSet<&str> = text.lines().map(|line| line.split_once('\t').unwrap().1).collect();
        let visitors: HashSet<&str> = text.lines().map(|line| line.split_once('\t').unwrap().0).collect();
        assert_eq!((nonces.len(), visitors.len()), (10_000, 100));
    }

    #[test]
    fn the_body_has_the_announced_length() {
        let template = Template::new(Method::Post, "h", "site", 3, &mut Random::new(1));
        let text = String::from_utf8(template.bytes().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert_eq!(body.lines().count(), 3);
    }

    #[test]
    fn a_get_beacon_has_a_query_of_about_400_bytes() {
        let template = Template::new(Method::Get, "h", "site", 1, &mut Random::new(1));
        let text = String::from_utf8(template.bytes().to_vec()).unwrap();
        let query = text.split(' ').nth(1).unwrap().len();
        assert!((350..450).contains(&query), "{query}");
    }
}
