//! The slow plain twin: visits by sorting and scanning everything that was sent.
//!
//! Duty: know the rules and nothing of the plan's visits, so that a wrong construction cannot hide.

use super::account::Day;
use super::model::{Defect, Line, Visit};
use super::{DEDUPE_HORIZON_MS, SESSION_TIMEOUT_MS};
use std::collections::HashMap;

/// A received good line: time, position, nonce order it.
struct Receipt {
    at_ms: u64,
    position: u16,
    line: Line,
    is_heartbeat: bool,
}

/// Events that are left after removing repeats, heartbeats among them, and the visits, in the order of
/// `(visitor, start)`.
pub(super) fn scan(day: &Day) -> (u64, u64, Vec<Visit>) {
    let mut of_visitor: HashMap<u32, Vec<Receipt>> = HashMap::new();
    for request in day.requests.iter().filter(|request| request.counts()) {
        let body = &day.lines[request.lines()];
        for (position, line) in (0u16..).zip(body) {
            if line.defect != Defect::None {
                continue;
            }
            let siblings = body
                .iter()
                .filter(|other| other.defect == Defect::None && other.visitor == line.visitor)
                .count();
            of_visitor.entry(line.visitor).or_default().push(Receipt {
                at_ms: request.at_ms,
                position,
                line: *line,
                is_heartbeat: line.kind.is_static() && siblings == 1,
            });
        }
    }
    let (mut distinct, mut heartbeats, mut visits) = (0, 0, Vec::new());
    for (visitor, mut receipts) in of_visitor {
        receipts.sort_by_key(|receipt| (receipt.at_ms, receipt.position, receipt.line.nonce));
        let mut first_receipts: HashMap<u64, u64> = HashMap::new();
        receipts.retain(|receipt| {
            let known = first_receipts.get(&receipt.line.nonce);
            if known.is_some_and(|first| receipt.at_ms - first < DEDUPE_HORIZON_MS) {
                return false;
            }
            first_receipts.insert(receipt.line.nonce, receipt.at_ms);
            true
        });
        distinct += receipts.len() as u64;
        let mut last = None;
        for receipt in receipts {
            if receipt.is_heartbeat {
                heartbeats += 1;
                continue;
            }
            if last.is_none_or(|last| receipt.at_ms - last >= SESSION_TIMEOUT_MS) {
                visits.push(Visit::new(visitor));
            }
            last = Some(receipt.at_ms);
            visits.last_mut().unwrap().add(&receipt.line, receipt.at_ms, receipt.position);
        }
    }
    visits.sort_by_key(|visit| (visit.visitor, visit.started_at_ms));
    (distinct, heartbeats, visits)
}
