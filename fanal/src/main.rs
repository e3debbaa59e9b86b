//! `fanal`: the only program. This file is its table of contents.

mod client;
mod commands;
mod config;
mod exit;
mod node;
mod output;
mod sample;
mod session;

use std::process::ExitCode;

use clap::Parser;
use commands::{Cli, Command};

/// Many small allocations of many threads: the system allocator is the slower one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = output::Output::new(cli.json);
    let result = match cli.command {
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Dev(arguments) => commands::dev::run(&arguments, &output),
        Command::Import(arguments) => commands::import::run(&arguments, &output),
        Command::Parse(arguments) => commands::parse::run(&arguments, &output),
        Command::Rebuild(arguments) => commands::rebuild::run(&arguments, &output),
        Command::DeadLetters(arguments) => commands::dead_letters::run(&arguments, &output),
        Command::Reconcile(arguments) => commands::reconcile::run(&arguments, &output),
        Command::Doctor(arguments) => commands::doctor::run(&arguments, &output),
        Command::Config(arguments) => commands::config::run(&arguments, &output),
        Command::ClickhouseServer(arguments) => commands::clickhouse_server::run(&arguments),
    };
    exit::code(result)
}
