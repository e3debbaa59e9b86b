//! Faults on real servers under steady load: nothing acknowledged is missing,
//! nothing is there twice, the counts are conserved, and nobody's hand was needed.
//!
//! One installation for the whole program, one fault after another, so this has a
//! `main` of its own; what it prints is what the test harness prints. By default
//! several faults are verified together; `FANAL_FAULTS=full` verifies after each.
//! `FANAL_FAULT_SEED` repeats the schedule of a run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test states what must hold by panicking")]
#![allow(clippy::print_stdout, reason = "this program stands in for the test harness")]

mod fault;
mod installation;
mod load;
mod seed;
mod verify;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fault::{Fault, GROUPS};
use installation::Installation;
use seed::Random;

/// Names the form: `full`, or not set.
const FORM: &str = "FANAL_FAULTS";
/// Under load before a wave begins, and after it is over.
const BEFORE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(2500));
const AFTER: Duration = Duration::from_millis(1500);
/// Between the faults of one wave.
const APART_MAX: Duration = Duration::from_millis(800);
/// Beyond the collector's own limit for a confirmation.
const ANSWER_MS_MAX: u64 = 10_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_exact = words.iter().any(|word| word == "--exact");
    let wanted = |fault: &Fault| {
        filters.is_empty()
            || filters
                .iter()
                .any(|f| if is_exact { fault.name == *f } else { fault.name.contains(f.as_str()) })
    };
    let groups = groups(wanted);
    let count = groups.iter().flatten().map(Vec::len).sum::<usize>();
    if words.iter().any(|word| word == "--list") {
        groups.iter().flatten().flatten().for_each(|fault| println!("{}: test", fault.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {count} tests");
    let began = Instant::now();
    let passed = if count == 0 { 0 } else { run(&groups) };
    let failed = count - passed;
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        began.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0))
}

/// Groups of waves of faults, as the form wants them.
fn groups(wanted: impl Fn(&Fault) -> bool) -> Vec<Vec<Vec<Fault>>> {
    let chosen = |wave: &&[Fault]| -> Vec<Fault> { wave.iter().copied().filter(&wanted).collect() };
    let is_full = match std::env::var(FORM).as_deref() {
        Ok("full") => true,
        Ok("") | Err(_) => false,
        Ok(other) => panic!("{FORM}={other} is unknown; set it to full, or not at all"),
    };
    if is_full {
        let faults = GROUPS.iter().copied().flatten().flat_map(&chosen);
        return faults.map(|fault| vec![vec![fault]]).collect();
    }
    let waves = |group: &&[&[Fault]]| -> Vec<Vec<Fault>> {
        group.iter().map(&chosen).filter(|wave| !wave.is_empty()).collect()
    };
    GROUPS.iter().map(waves).filter(|group| !group.is_empty()).collect()
}

/// Runs all groups up to the first that fails; how many faults passed.
fn run(groups: &[Vec<Vec<Fault>>]) -> usize {
    let seed = seed::seed();
    let again = format!("repeat the schedule with {}={seed}", seed::VARIABLE);
    println!("{again}");
    let began = Instant::now();
    let Ok(mut whole) = catch_unwind(|| Installation::start(seed)) else {
        println!("test the_installation_starts ... FAILED");
        return 0;
    };
    println!("everything is ready after {:.1} s", began.elapsed().as_secs_f64());
    let mut passed = 0;
    // The first group has no fault: what fails there is no fault's doing.
    for group in [&Vec::new()].into_iter().chain(groups) {
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| undergo(&mut whole, group, seed)));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        group.iter().flatten().for_each(|fault| println!("test {} ... {word}", fault.name));
        println!("  {:.1} s in all", began.elapsed().as_secs_f64());
        if result.is_err() {
            println!(
                "{again}\nkept for a look: {}\n{}",
                whole.folder.path().display(),
                whole.logs().join("\n")
            );
            let Installation { folder, .. } = whole;
            std::mem::forget(folder);
            return passed;
        }
        passed += group.iter().map(Vec::len).sum::<usize>();
    }
    passed
}

/// The faults of a group under load, and what must hold afterwards.
fn undergo(whole: &mut Installation, group: &[Vec<Fault>], seed: u64) {
    whole.load.start();
    sleep(BEFORE.0);
    for wave in group {
        let mut random = Random::new(seed, wave[0].name);
        sleep(random.between(BEFORE.0, BEFORE.1));
        strike(whole, wave, &mut random);
        sleep(AFTER);
    }
    whole.load.stop();
    println!("  {}", verify::verify(whole));
}

fn strike(whole: &mut Installation, wave: &[Fault], random: &mut Random) {
    let is_spooled = wave.iter().any(|fault| fault.kind.is_spooled());
    if is_spooled {
        fault::until_direct(whole);
    }
    let (noticed, engaged) = (fault::noticed(whole), fault::engaged_total(whole));
    whole.load.counters().take_slowest_ms();
    for (number, fault) in wave.iter().enumerate() {
        if number > 0 {
            sleep(random.between(Duration::ZERO, APART_MAX));
        }
        fault.kind.begin(whole, random);
    }
    sleep(wave.iter().map(|fault| fault.kind.lasts()).max().unwrap_or_default());
    if is_spooled {
        fault::until_spooled(whole, engaged);
    }
    let began = Instant::now();
    let servers: Vec<&str> = wave.iter().flat_map(|fault| fault.kind.end(whole)).copied().collect();
    if !servers.is_empty() {
        whole.stack.restart_all(&servers);
        println!("  {servers:?} ready again after {:.1} s", began.elapsed().as_secs_f64());
    }
    wave.iter().for_each(|fault| fault.kind.settle(whole));
    if wave.iter().all(|fault| fault.kind.is_silent()) {
        assert_eq!(fault::noticed(whole), noticed, "senders noticed it");
        let slowest = whole.load.counters().take_slowest_ms();
        assert!(slowest < ANSWER_MS_MAX, "an answer took {slowest} ms");
        println!("  all answers were 204; the slowest took {slowest} ms");
    }
}
