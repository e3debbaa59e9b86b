//! Cost of judging a user agent on one thread: read word by word, and remembered.
//!
//! Prints one JSON line with nanoseconds per user agent, the best of several rounds.
//! `cargo run --release -p fanal-parser --example bench_robots`

#![expect(clippy::print_stdout, reason = "the result of a benchmark is its output")]

use std::hint::black_box;
use std::time::Instant;

use fanal_model::RobotReason;
use fanal_parser::Robots;

const ROUNDS: usize = 300;
/// Short rounds: on a machine that does other things some of them are not interrupted.
const JUDGED: usize = 4_000;
/// User agents of a busy site; they share the places of those that are remembered.
const AGENTS: usize = 200;

fn agents() -> Vec<String> {
    let agent = |n: usize| {
        format!(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/{}.0.{}.{} Safari/537.36",
            100 + n % 57,
            6_000 + n,
            n * 7 % 200
        )
    };
    (0..AGENTS).map(agent).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn best(agents: &[String], mut judge: impl FnMut(&[u8]) -> Option<RobotReason>) -> f64 {
    let round = |_| {
        let begin = Instant::now();
        for agent in agents.iter().cycle().take(JUDGED) {
            black_box(judge(black_box(agent.as_bytes())));
        }
        begin.elapsed().as_nanos() as f64 / JUDGED as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn main() {
    let agents = agents();
    let plain = best(&agents, RobotReason::of_words);
    let mut robots = Robots::default();
    let remembered = best(&agents, |agent| robots.of_words(agent));
    println!(
        "{{\"agent_bytes\":{},\"plain_ns\":{plain:.1},\"remembered_ns\":{remembered:.1}}}",
        agents[0].len()
    );
}
