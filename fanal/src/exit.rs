//! Exit codes: 0 done, 1 failed, 2 wrong use, 64 bad configuration.

use std::fmt;
use std::process::ExitCode;

/// How a command ended when it did not simply fail.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The configuration is wrong; the text says where.
    BadConfiguration(String),
    /// The command was called in a way that cannot work; the text says how it can.
    WrongUse(String),
    /// The command did its work and the answer is no. Already printed.
    Negative,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadConfiguration(text) | Self::WrongUse(text) => f.write_str(text),
            Self::Negative => Ok(()),
        }
    }
}

impl std::error::Error for Ending {}

/// Prints an error with its causes and gives the code for it.
pub(crate) fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let ending = error.downcast_ref::<Ending>();
    if !matches!(ending, Some(Ending::Negative)) {
        print(&error);
    }
    match ending {
        Some(Ending::BadConfiguration(_)) => ExitCode::from(64),
        Some(Ending::WrongUse(_)) => ExitCode::from(2),
        Some(Ending::Negative) | None => ExitCode::from(1),
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a command says why it failed")]
fn print(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        // Some errors repeat their source in their own text.
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    eprintln!("{text}");
}
