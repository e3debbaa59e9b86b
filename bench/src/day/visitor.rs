//! New visitors and their codes.
//!
//! Duty: codes of the kinds that clients make: hexadecimal, letters and digits, and what applications put there
//! themselves (addresses, non-ASCII, characters that need encoding). What must stay true: a code is unique within its
//! site.

use super::account::Day;
use super::case::Case;
use super::model::{Visitor, index};
use crate::random::Random;

/// Adds a visitor of a random site (the first sites are the busy ones).
pub(super) fn any(day: &mut Day, random: &mut Random) -> u32 {
    let sites = index(day.sites.len());
    let site = u16::try_from(random.skewed(sites)).unwrap_or(0);
    of_site(day, random, site)
}

/// Adds a visitor of one site.
pub(super) fn of_site(day: &mut Day, random: &mut Random, site: u16) -> u32 {
    let number = day.visitors.len();
    if let Some(last) = day.visitors.last()
        && last.site != site
        && !last.is_borrowed
        && random.chance(100)
    {
        let borrowed = Visitor { site, is_borrowed: true, ..last.clone() };
        day.cases.count(Case::BorrowedCode);
        day.visitors.push(borrowed);
        return index(number);
    }
    let kind = random.below(100);
    let code = match kind {
        0..=59 => format!("{:016x}", random.next()),
        60..=84 => letters(random),
        85..=89 => non_ascii(random, number),
        90..=93 => format!("user+{number}@example.com"),
        94..=96 => awkward(random, number),
        _ => format!("customer-{number}"),
    };
    day.visitors.push(Visitor {
        site,
        code: code.into_boxed_str(),
        is_mapping: kind >= 97,
        is_plain: kind < 85,
        is_borrowed: false,
    });
    index(number)
}

fn letters(random: &mut Random) -> String {
    (0..16).map(|_| char::from(*random.pick(b"abcdefghijklmnopqrstuvwxyz0123456789"))).collect()
}

fn non_ascii(random: &mut Random, number: usize) -> String {
    match random.below(4) {
        0 => format!("élève {number}"),
        1 => format!("訪問者-{number}"),
        2 => format!("naïve😀{number}"),
        _ => format!("Ольга/{number}"),
    }
}

fn awkward(random: &mut Random, number: usize) -> String {
    match random.below(6) {
        0 => format!("O'Neil ({number})"),
        1 => format!("a&b=c#{number}"),
        2 => format!("100%{number}"),
        3 => format!("x%41{number}"),
        4 => format!("back\\slash{number}"),
        _ => format!("\"quoted\" {number}"),
    }
}
