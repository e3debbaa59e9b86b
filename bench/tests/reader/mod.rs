//! A naive reader of the log format `fanal` and of tracking lines, and a naive visit builder.
//!
//! Duty: strings, maps and sorting, nothing clever. It shares no code with the generator.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// What the logs say.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) visits_tsv: String,
    pub(crate) log_lines: u64,
    pub(crate) garbage: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) distinct: u64,
    pub(crate) heartbeats: u64,
}

struct Event {
    at_ms: u64,
    position: usize,
    nonce: String,
    kind: String,
    is_heartbeat: bool,
    fields: HashMap<String, String>,
}

type Visitors = BTreeMap<(String, String), Vec<Event>>;

/// Reads whole files.
pub(crate) fn read<'a>(files: impl Iterator<Item = &'a Vec<u8>>) -> Read {
    let mut out = Read::default();
    let mut visitors = Visitors::new();
    for bytes in files {
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        for line in body.split(|byte| *byte == b'\n') {
            out.log_lines += 1;
            if log_line(line, &mut visitors, &mut out).is_none() {
                out.garbage += 1;
            }
        }
    }
    build(visitors, &mut out);
    out
}

/// `None` where it is no log line at all.
fn log_line(line: &[u8], visitors: &mut Visitors, out: &mut Read) -> Option<()> {
    let columns: Vec<Vec<u8>> = line.split(|byte| *byte == b'\t').map(unescape).collect();
    let [time, _address, method, uri, status, _agent, _referer, cookie, body] = columns.as_slice() else {
        return None;
    };
    let (seconds, millis) = std::str::from_utf8(time).ok()?.split_once('.')?;
    let at_ms = seconds.parse::<u64>().ok()? * 1000 + millis.parse::<u64>().ok()?;
    let status: u16 = std::str::from_utf8(status).ok()?.parse().ok()?;
    let uri = String::from_utf8(uri.clone()).ok()?;
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let tracking = path == "/visit/events" || path == "/visit/events.gif";
    if !tracking || !(200..300).contains(&status) || (method != b"GET" && method != b"POST") {
        return Some(());
    }
    let site = query.split('&').find_map(|pair| pair.strip_prefix("siteCode="));
    let lines: Vec<Vec<u8>> = if method == b"GET" {
        let rest: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("siteCode=")).collect();
        vec![rest.join("&").into_bytes()]
    } else if body == b"-" {
        Vec::new()
    } else {
        body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    };
    let Some(site) = site else {
        out.rejected += lines.len() as u64;
        return Some(());
    };
    request(site, at_ms, &lines, &String::from_utf8_lossy(cookie), visitors, out);
    Some(())
}

fn request(site: &str, at_ms: u64, lines: &[Vec<u8>], cookie: &str, visitors: &mut Visitors, out: &mut Read) {
    let cookie = cookie.split("; ").find_map(|pair| pair.strip_prefix("kameleoonVisitorCode="));
    let mut good = Vec::new();
    let mut of_visitor: HashMap<String, usize> = HashMap::new();
    for (position, line) in lines.iter().enumerate() {
        match tracking_line(line, cookie) {
            Some((visitor, fields)) => {
                out.accepted += 1;
                *of_visitor.entry(visitor.clone()).or_default() += 1;
                good.push((position, visitor, fields));
            }
            None => out.rejected += 1,
        }
    }
    for (position, visitor, fields) in good {
        let kind = fields["eventType"].to_lowercase();
        let is_heartbeat = kind == "staticdata" && of_visitor[&visitor] == 1;
        let nonce = fields["nonce"].clone();
        visitors.entry((site.to_owned(), visitor)).or_default().push(Event {
            at_ms,
            position,
            nonce,
            kind,
            is_heartbeat,
            fields,
        });
    }
}

/// Visitor and decoded parameters; `None` where the line must be rejected.
fn tracking_line(line: &[u8], cookie: Option<&str>) -> Option<(String, HashMap<String, String>)> {
    let agent = line.windows(11).position(|part| part == b"&userAgent=").unwrap_or(line.len());
    let mut fields = HashMap::new();
    for pair in line[..agent].split(|byte| *byte == b'&') {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        fields.insert(String::from_utf8(pair[..at].to_vec()).ok()?, percent_decode(&pair[at + 1..]));
    }
    let nonce = fields.get("nonce")?;
    if nonce.len() != 16
        || !nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
        || !fields.contains_key("eventType")
    {
        return None;
    }
    let named = fields.get("visitorCode").or_else(|| fields.get("mappingValue")).cloned();
    let visitor = named.or_else(|| cookie.map(str::to_owned))?;
    (!visitor.is_empty()).then_some((visitor, fields))
}

fn build(visitors: Visitors, out: &mut Read) {
    out.visits_tsv.push_str(
        "site_code\tvisitor\tstarted_at_ms\tlast_event_at_ms\tevent_count\tpage_view_count\tconversion_count\t\
         revenue\tlanding_url\texit_url\n",
    );
    for ((site, visitor), mut events) in visitors {
        events.sort_by(|a, b| (a.at_ms, a.position, &a.nonce).cmp(&(b.at_ms, b.position, &b.nonce)));
        let mut first: HashMap<String, u64> = HashMap::new();
        events.retain(|event| {
            if first.get(&event.nonce).is_some_and(|first| event.at_ms - first < 2 * 3600 * 1000) {
                return false;
            }
            first.insert(event.nonce.clone(), event.at_ms);
            true
        });
        out.distinct += events.len() as u64;
        out.heartbeats += events.iter().filter(|event| event.is_heartbeat).count() as u64;
        events.retain(|event| !event.is_heartbeat);
        for visit in events.chunk_by(|a, b| b.at_ms - a.at_ms < 30 * 60 * 1000) {
            row(&site, &visitor, visit, &mut out.visits_tsv);
        }
    }
}

fn row(site: &str, visitor: &str, visit: &[Event], out: &mut String) {
    let pages: Vec<&Event> = visit.iter().filter(|event| event.kind == "page").collect();
    let conversions: Vec<&Event> = visit.iter().filter(|event| event.kind == "conversion").collect();
    let revenue: i64 = conversions
        .iter()
        .map(|event| {
            let (whole, places) =
                event.fields["revenue"].split_once('.').unwrap_or((&event.fields["revenue"], ""));
            let amount =
                whole.parse::<i64>().unwrap() * 10_000 + format!("{places:0<4}").parse::<i64>().unwrap();
            if event.fields["negative"] == "true" { -amount } else { amount }
        })
        .sum();
    let url = |event: Option<&&Event>| event.map_or(String::new(), |event| escape(&event.fields["href"]));
    writeln!(
        out,
        "{site}\t{}\t{}\t{}\t{}\t{}\t{}\t{}{}.{:04}\t{}\t{}",
        escape(visitor),
        visit[0].at_ms,
        visit[visit.len() - 1].at_ms,
        visit.len(),
        pages.len(),
        conversions.len(),
        if revenue < 0 { "-" } else { "" },
        revenue.abs() / 10_000,
        revenue.abs() % 10_000,
        url(pages.first()),
        url(pages.last()),
    )
    .unwrap();
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\")
}

/// Undoes nginx's `\xHH`, once.
fn unescape(column: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < column.len() {
        let code = column.get(at + 2..at + 4).filter(|_| column[at..].starts_with(b"\\x"));
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(column[at]);
                at += 1;
            }
        }
    }
    out
}

fn percent_decode(value: &[u8]) -> String {
    let mut out = Vec::new();
    let mut at = 0;
    while at < value.len() {
        let code = value.get(at + 1..at + 3).filter(|_| value[at] == b'%');
        match code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(value[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
