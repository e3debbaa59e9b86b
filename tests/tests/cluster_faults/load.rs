//! Steady traffic that keeps a list of what was acknowledged.
//!
//! Sends as an SDK does: a request without a 2xx is sent again, the same bytes,
//! until it has one. What must stay true: when the load has stopped, every line
//! that was ever sent is acknowledged, and the list has all of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::seed::Random;

pub(crate) const SITES: [&str; 2] = ["clusterf01", "clusterf02"];
const VISITORS: u64 = 300;
const SENDERS: u64 = 6;
const LINES_PER_REQUEST: u64 = 10;
/// Each sender pauses so long between two requests.
const PAUSE: Duration = Duration::from_millis(150);
/// Before a request is sent again.
const AGAIN: Duration = Duration::from_millis(150);
/// The collector answers sooner, whatever happens behind it.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Beyond the longest time that a collector is away.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(180);

/// What senders have been told is stored.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// Site, visitor, nonce, separated by tabs.
    pub(crate) nonces: Vec<String>,
    /// Address of each line without nonce, and how often its request was sent.
    pub(crate) plain: Vec<(String, u64)>,
}

/// What is seen of the answers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests with a 2xx.
    pub(crate) acknowledged: AtomicU64,
    /// Answers that were no 2xx.
    pub(crate) refused: AtomicU64,
    /// Requests without an answer.
    pub(crate) broken: AtomicU64,
    /// The longest time to an answer since it was last asked for.
    slowest_ms: AtomicU64,
}

impl Counters {
    pub(crate) fn take_slowest_ms(&self) -> u64 {
        self.slowest_ms.swap(0, Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    acknowledged: Mutex<Acknowledged>,
    counters: Counters,
}

/// The senders; more than one life, one list.
#[derive(Debug)]
pub(crate) struct Load {
    address: String,
    random: Random,
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn new(address: &str, random: Random) -> Self {
        Self { address: address.to_owned(), random, shared: Arc::default(), senders: Vec::new() }
    }

    pub(crate) fn start(&mut self) {
        self.shared.stop.store(false, Ordering::SeqCst);
        for _ in 0..SENDERS {
            let (address, shared, random) =
                (self.address.clone(), Arc::clone(&self.shared), self.random.fork());
            self.senders.push(std::thread::spawn(move || send(&address, random, &shared)));
        }
    }

    /// Ends it; whatever was sent is acknowledged then.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for sender in self.senders.drain(..) {
            assert!(sender.join().is_ok(), "a request was not acknowledged within {ACKNOWLEDGED_WITHIN:?}");
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Looks at the list.
    pub(crate) fn acknowledged<T>(&self, look: impl FnOnce(&Acknowledged) -> T) -> T {
        look(&self.shared.acknowledged.lock().unwrap())
    }
}

struct Request {
    bytes: Vec<u8>,
    nonces: Vec<String>,
    plain: Vec<String>,
}

/// Ten lines: mostly of one visitor, else of many, so that one request is in several partitions.
fn request(random: &mut Random, shared: &Shared) -> Request {
    let site = SITES[random.index(SITES.len())];
    let is_mixed = random.below(4) == 0;
    let mut visitor = random.below(VISITORS);
    let (mut nonces, mut plain, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..LINES_PER_REQUEST {
        if is_mixed {
            visitor = random.below(VISITORS);
        }
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let what = match number % 10 {
            0 => format!("eventType=conversion&goalId={}&revenue={}", number % 7, number % 50),
            1 => format!("eventType=experiment&id={}&variationId={}", 1000 + number % 3, 2000 + number % 2),
            _ => format!("eventType=page&href=https%3A%2F%2Fa.test%2F{number}"),
        };
        let line = format!("{what}&visitorCode=v{visitor}");
        if number % 10 == 9 {
            plain.push(format!("https://a.test/{number}"));
            lines.push(line);
        } else {
            let nonce = format!("{number:016X}");
            lines.push(format!("{line}&nonce={nonce}"));
            nonces.push(format!("{site}\tv{visitor}\t{nonce}"));
        }
    }
    let body = lines.join("\n");
    let head = format!(
        "POST /visit/events?siteCode={site} HTTP/1.1\r\nHost: data.test\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    Request { bytes: [head, body].concat().into_bytes(), nonces, plain }
}

fn send(address: &str, mut random: Random, shared: &Shared) {
    let mut connection = None;
    while !shared.stop.load(Ordering::SeqCst) {
        let Request { bytes, nonces, plain } = request(&mut random, shared);
        let limit = Instant::now() + ACKNOWLEDGED_WITHIN;
        let mut sent = 0;
        loop {
            sent += 1;
            let began = Instant::now();
            let status = exchange(&mut connection, address, &bytes);
            let took = u64::try_from(began.elapsed().as_millis()).unwrap();
            let counters = &shared.counters;
            counters.slowest_ms.fetch_max(took, Ordering::SeqCst);
            match status {
                Ok(200..=299) => break,
                Ok(_) => counters.refused.fetch_add(1, Ordering::SeqCst),
                Err(_) => {
                    connection = None;
                    counters.broken.fetch_add(1, Ordering::SeqCst)
                }
            };
            assert!(Instant::now() < limit, "not acknowledged: {status:?}");
            std::thread::sleep(AGAIN);
        }
        shared.counters.acknowledged.fetch_add(1, Ordering::SeqCst);
        let mut known = shared.acknowledged.lock().unwrap();
        known.nonces.extend(nonces);
        known.plain.extend(plain.into_iter().map(|address| (address, sent)));
        drop(known);
        std::thread::sleep(PAUSE);
    }
}

/// One request on a kept connection; the status.
fn exchange(
    connection: &mut Option<BufReader<TcpStream>>,
    address: &str,
    bytes: &[u8],
) -> std::io::Result<u16> {
    if connection.is_none() {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        *connection = Some(BufReader::new(stream));
    }
    let reader = connection.as_mut().unwrap();
    reader.get_mut().write_all(bytes)?;
    let (mut status, mut body_bytes) = (0, 0);
    for number in 0.. {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if number == 0 {
            status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        } else if let Some(length) = line.strip_prefix("content-length:") {
            body_bytes = length.trim().parse().unwrap_or(0);
        } else if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; body_bytes])?;
    Ok(status)
}
