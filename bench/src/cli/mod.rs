//! Commands and their options; each command is a few lines over the library.
//!
//! What must stay true: exit code 0 is done, 1 failed or differences found, 2 wrong use.

mod cpu;
mod day;
mod goals;
mod load;
mod summary;
mod truth;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Traffic with known truth, a load generator, and what is needed to judge Fanal from outside.
#[derive(Parser)]
#[command(name = "fanal-bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a day of traffic as nginx access logs, and beside them what is true of it.
    Day(day::Args),
    /// Send beacons to /visit/events, count answers and time them.
    Load(load::Args),
    /// CPU time and memory of running processes, or of a command, from the kernel's own accounting.
    Cpu(cpu::Args),
    /// Compare visits and events in ClickHouse with a generated day; exit 1 where they differ.
    Truth(truth::Args),
    /// Turn the runs of a record into medians and ratios.
    Summary(summary::Args),
    /// Put the medians of a record beside what is aimed at.
    Goals(goals::Args),
}

impl Cli {
    /// Runs the command; an error goes to standard error with its causes.
    pub(crate) fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Day(args) => day::run(&args),
            Command::Load(args) => load::run(&args),
            Command::Cpu(args) => cpu::run(&args),
            Command::Truth(args) => truth::run(&args),
            Command::Summary(args) => summary::run(&args),
            Command::Goals(args) => goals::run(&args),
        };
        match done {
            Ok(code) => code,
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "the command's error")]
                {
                    eprintln!("fanal-bench: {error:#}");
                }
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints a command's result.
#[expect(clippy::print_stdout, reason = "the command's result")]
fn show(text: &str) {
    println!("{text}");
}
