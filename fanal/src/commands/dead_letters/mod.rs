//! `fanal dead-letters`: what was rejected is listed, read again by today's rules, or
//! dropped.

mod run;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use fanal_etl::day::Day;
use fanal_ingest::replay::{LetterFilter, LetterId};
use fanal_model::RejectReason;

use super::Installation;
use crate::exit::Ending;
use crate::output::Output;

/// The most that one list shows.
const LIST_MAX: u64 = 100_000;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show dead letters, newest first, with the beginning of their bytes.
    List {
        #[command(flatten)]
        installation: Installation,
        #[command(flatten)]
        which: Which,
        /// Letters to show at most.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=LIST_MAX))]
        limit: u64,
    },
    /// Read dead letters again by today's rules and add what is accepted now, at its
    /// original time. What fails again stays.
    Replay {
        #[command(flatten)]
        installation: Installation,
        #[command(flatten)]
        which: Which,
        /// Letters to read at most, oldest first; all by default.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Show dead letters no more, without reading them again. The archive keeps them.
    Drop {
        #[command(flatten)]
        installation: Installation,
        #[command(flatten)]
        which: Which,
        /// Drop every dead letter.
        #[arg(long, conflicts_with_all = ["site", "reason", "from", "to", "id"])]
        all: bool,
        /// Letters to drop at most, oldest first; all by default.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
}

/// Which letters are meant.
#[derive(Args)]
struct Which {
    /// One site; empty for letters that name none.
    #[arg(long, value_name = "S")]
    site: Option<String>,
    /// One reason, such as unknown_site.
    #[arg(long, value_name = "R")]
    reason: Option<String>,
    /// First day of receipt, in UTC, such as 2026-10-01.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day, included.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// One letter, by the id that `list` shows; may be given several times.
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let wrong = |error: anyhow::Error| Ending::WrongUse(error.to_string());
    let (installation, which) = match &arguments.action {
        Action::List { installation, which, .. }
        | Action::Replay { installation, which, .. }
        | Action::Drop { installation, which, .. } => (installation, which),
    };
    let filter = which.filter().map_err(wrong)?;
    if let Action::Drop { all: false, .. } = arguments.action
        && which.is_empty()
    {
        let text = "drop: say which with --site, --reason, --from, --to or --id, or give --all";
        return Err(Ending::WrongUse(text.to_owned()).into());
    }
    let _logs = super::quiet_logs()?;
    let config = installation.config()?;
    super::runtime()?.block_on(async {
        match &arguments.action {
            Action::List { limit, .. } => Box::pin(run::list(config, &filter, *limit, output)).await,
            Action::Replay { limit, .. } => {
                Box::pin(run::replay(config, &filter, limit.unwrap_or(u64::MAX), output)).await
            }
            Action::Drop { limit, .. } => {
                Box::pin(run::drop_letters(config, &filter, limit.unwrap_or(u64::MAX), output)).await
            }
        }
    })
}

impl Which {
    fn is_empty(&self) -> bool {
        let Self { site, reason, from, to, id } = self;
        site.is_none() && reason.is_none() && from.is_none() && to.is_none() && id.is_empty()
    }

    fn filter(&self) -> anyhow::Result<LetterFilter> {
        let reason = self.reason.as_deref().map(reason).transpose()?;
        let from = self.from.as_deref().map(Day::parse).transpose()?;
        let to = self.to.as_deref().map(Day::parse).transpose()?;
        if let (Some(from), Some(to)) = (from, to) {
            anyhow::ensure!(
                from <= to,
                "the range ends ({to}) before it begins ({from}); swap --from and --to"
            );
        }
        let received_ms = (from.is_some() || to.is_some())
            .then(|| (from.map_or(0, Day::start_ms), to.map_or(u64::MAX, Day::end_ms)));
        let ids = self.id.iter().map(|id| id.parse()).collect::<Result<BTreeSet<LetterId>, _>>()?;
        Ok(LetterFilter { site: self.site.clone(), reason, received_ms, ids })
    }
}

fn reason(name: &str) -> anyhow::Result<RejectReason> {
    RejectReason::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = RejectReason::ALL.iter().map(|reason| reason.name()).collect();
        anyhow::anyhow!("`{name}` is no reason; it is one of {}", known.join(", "))
    })
}
