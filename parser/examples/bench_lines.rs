//! Speed of the line parser on one thread: every line parsed and turned into its event.
//!
//! Prints one JSON line; the corpus has the shapes that the recorded SDKs send.
//! `cargo run --release -p fanal-parser --example bench_lines`

#![expect(clippy::print_stdout, reason = "the result of a benchmark is its output")]

use std::hint::black_box;
use std::time::Instant;

use fanal_model::EventKind;
use fanal_parser::{body, line};

const ROUNDS: usize = 5;
const CORPUS_BYTES: usize = 64 << 20;

/// Lines of one visitor; `@N` is a nonce, `@V` the visitor, `@P` a page.
const SHAPES: [&str; 14] = [
    "eventType=experiment&id=3001&variationId=4002&nonce=@N&visitorCode=@V",
    "eventType=staticData&os=LINUX&osIndex=3&nonce=@N&visitorCode=@V&userAgent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
    "eventType=staticData&deviceType=TABLET&nonce=@N&visitorCode=@V",
    "eventType=staticData&browser=CHROME&browserIndex=0&browserVersion=156&nonce=@N&visitorCode=@V",
    "eventType=page&href=https%3A%2F%2Fwww.example.test%2Fa%20path%2F@P%3Fx%3D1%26y%3D%25C3%25A9%23f&title=T%C3%AFtre%20%26%20co%20%3D%20100%25&referrersIndices=[2,5]&nonce=@N&visitorCode=@V",
    "nonce=@N&eventType=page&href=https%3A%2F%2Fwww.example.test%2Fproducts%2F@P&title=Product%20@P&visitorCode=@V",
    "eventType=geolocation&country=France&region=%C3%8Ele-de-France&city=Paris&postalCode=75008&latitude=48.8738&longitude=2.295&nonce=@N&visitorCode=@V",
    "nonce=@N&eventType=customData&index=1&valuesCountMap=%7B%22gold%22%3A1%7D&overwrite=true&visitorCode=@V",
    "eventType=customData&index=2&valuesCountMap=%7B%22lv-3%22%3A1%2C%22a%2Cb%3Bc%5C%22d'e%22%3A1%7D&overwrite=false&nonce=@N&visitorCode=@V",
    "eventType=targetingSegment&id=7001&nonce=@N&visitorCode=@V",
    "nonce=@N&eventType=conversion&goalId=9002&revenue=12.5&negative=false&metadata=%7B%221%22%3A%5B%22a%26b%3Dc%22%2C%22d%22%5D%7D&visitorCode=@V",
    "nonce=@N&eventType=conversion&goalId=9003&revenue=0.0&negative=false&mappingValue=user-@P",
    "nonce=@N&eventType=activity&visitorCode=@V",
    "eventType=staticData&browser=CHROME&browserIndex=0&browserVersion=156&visitNumber=0&timeSincePreviousVisit=0&os=LINUX&osIndex=3&deviceType=DESKTOP&nonce=@N&visitorCode=@V",
];

fn corpus() -> Vec<u8> {
    let mut body = Vec::with_capacity(CORPUS_BYTES + 1_024);
    let mut n = 0_u64;
    while body.len() < CORPUS_BYTES {
        for shape in SHAPES {
            // Spreads the bits, so that no two lines are alike.
            let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
            let line = shape
                .replace("@N", &format!("{mixed:016X}"))
                .replace("@V", &format!("{:016x}", (n / 14).wrapping_mul(0xD134_2543_DE82_EF95)))
                .replace("@P", &(mixed % 10_000).to_string());
            body.extend_from_slice(line.as_bytes());
            body.push(b'\n');
            n += 1;
        }
    }
    body
}

/// A number that no part of the work can be left out of.
fn read(corpus: &[u8]) -> (u64, u64) {
    let (mut lines, mut sum) = (0_u64, 0_u64);
    for bytes in body::lines(corpus) {
        lines += 1;
        let Ok(line) = line::parse(bytes) else { continue };
        let event = black_box(line.event());
        let weight = match &event.kind {
            EventKind::Page(page) => page.href.len() + page.title.len(),
            EventKind::CustomData(data) => data.values_count_map.len(),
            EventKind::Conversion(conversion) => conversion.goal_id as usize + conversion.metadata.len(),
            EventKind::Geolocation(place) => place.region.len(),
            other => other.name().len(),
        };
        let visitor = line.visitor().map_or(0, |v| v.raw().len());
        sum = sum.wrapping_mul(31).wrapping_add((weight + event.nonce.len() + visitor) as u64);
    }
    (lines, sum)
}

fn main() {
    let corpus = corpus();
    let expected = read(&corpus);
    let mut seconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(read(black_box(&corpus)), expected, "the work differs between rounds");
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[ROUNDS / 2];
    let (lines, checksum) = expected;
    let mb_per_s = corpus.len() as f64 / 1e6 / median;
    println!(
        "{{\"bench\":\"line_parser\",\"bytes\":{},\"lines\":{lines},\"seconds\":{median:.4},\"mb_per_s\":{mb_per_s:.1},\"checksum\":\"{checksum:016x}\"}}",
        corpus.len()
    );
}
