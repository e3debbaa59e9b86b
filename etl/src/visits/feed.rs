//! Records of the log → the engine, with times that can be believed.

use std::time::Duration;

use fanal_storage::log::{Chunk, Topic};

use crate::config::millis;
use crate::metrics;
use crate::stream::{Engine, Warning};

/// The log's clock may be ahead of this machine's by so much. Well below
/// `allowed_lateness`, so that a stamp within it makes nothing late.
pub(super) const STAMP_AHEAD_MAX: Duration = Duration::from_secs(30);

/// Gives the engine all records of a chunk; returns how many. What reads no clock
/// itself is told the time.
///
/// A stamp from the future says nothing of how far time has come: it moves no horizon.
/// One that moved it would make late whatever follows, until that time comes. It is
/// passed over and not cut to `now_ms`, so that a restart, which reads it at another
/// time, finds the same records late.
pub(super) fn feed(engine: &mut Engine, chunk: &Chunk, now_ms: u64) -> usize {
    let believed_to_ms = now_ms.saturating_add(millis(STAMP_AHEAD_MAX));
    let (mut records, mut ahead) = (0, 0);
    for record in chunk.records() {
        records += 1;
        let offset = record.offset;
        let is_ahead = record.append_time_ms > believed_to_ms;
        ahead += u64::from(is_ahead);
        let append_time_ms = if is_ahead { 0 } else { record.append_time_ms };
        let warning = match record.topic {
            Topic::Beacons => engine.take(offset, append_time_ms, record.value),
            Topic::Overflowed => {
                let at_ms = std::str::from_utf8(record.value).ok().and_then(|text| text.parse().ok());
                let at_ms = at_ms.unwrap_or(record.append_time_ms).min(believed_to_ms);
                engine.take_overflowed(offset, append_time_ms, record.key, at_ms);
                None
            }
            _ => {
                engine.read_to(offset + 1, append_time_ms);
                None
            }
        };
        if let Some(Warning::Unreadable { offset }) = warning {
            metrics::unreadable_record();
            tracing::warn!(
                partition = %engine.partition(), offset,
                "a record is not a beacon; it is kept in the archive and counted"
            );
        }
    }
    engine.read_to(chunk.next_offset(), 0);
    if ahead > 0 {
        metrics::stamped_ahead(ahead);
    }
    records
}

#[cfg(test)]
mod tests {
    use fanal_model::Beacon;
    use fanal_storage::clickhouse::Flush;
    use fanal_storage::log::Partition;

    use super::*;
    use crate::stream::EngineConfig;
    use crate::visit::VisitPolicy;

    const NOW: u64 = 1_760_000_000_000;
    const YEAR_MS: u64 = 365 * 86_400_000;
    const CONFIG: EngineConfig =
        EngineConfig { partition: Partition::EMBEDDED, key_partitions: 1, allowed_lateness_ms: 120_000 };

    fn beacon(at_ms: u64, nonce: u32) -> Vec<u8> {
        let line = format!(
            "eventType=page&href=https%3A%2F%2Fx%2F1&nonce=00000000{nonce:08X}&visitorCode=aaaaaaaaaaaaaaaa"
        );
        let mut value = Vec::new();
        Beacon {
            received_at_ms: at_ms,
            site_code: "s",
            visitor_code: "aaaaaaaaaaaaaaaa",
            line: line.as_bytes(),
            ..Beacon::default()
        }
        .encode(&mut value);
        value
    }

    fn chunk(records: &[(u64, u64)], first: u64) -> Chunk {
        let mut chunk = Chunk::of(Partition::EMBEDDED, first);
        for (at, (append_time_ms, at_ms)) in records.iter().enumerate() {
            let offset = first + at as u64;
            let value = beacon(*at_ms, u32::try_from(offset).unwrap());
            chunk.push(offset, Topic::Beacons, *append_time_ms, b"s\0aaaaaaaaaaaaaaaa", &value);
        }
        chunk
    }

    fn flush(engine: &mut Engine, now_ms: Option<u64>) -> Flush {
        engine.flush(now_ms, &|_: &str| VisitPolicy::default()).tables
    }

    fn late(flush: &Flush) -> u64 {
        flush.outcomes.iter().filter(|row| row.outcome == "late").map(|row| row.count).sum()
    }

    #[test]
    fn one_record_stamped_next_year_makes_none_late_also_after_a_restart() {
        let poison = chunk(&[(NOW, NOW), (NOW + YEAR_MS, NOW + 1)], 0);
        let after = chunk(&[(NOW + 1000, NOW + 1000), (NOW + 2000, NOW + 2000)], 2);
        let mut engine = Engine::new(CONFIG, 0);
        assert_eq!(feed(&mut engine, &poison, NOW), 2);
        let stored = engine.to_bytes().unwrap();
        feed(&mut engine, &after, NOW + 2000);
        let written = flush(&mut engine, Some(NOW + 2000));
        assert_eq!((late(&written), written.events.len()), (0, 4));
        // Ten minutes later, out of the checkpoint and out of the log alone.
        let restarted = Engine::from_bytes(CONFIG, &stored).unwrap();
        for (mut engine, from_start) in [(restarted, false), (Engine::new(CONFIG, 0), true)] {
            if from_start {
                feed(&mut engine, &poison, NOW + 600_000);
            }
            feed(&mut engine, &after, NOW + 600_000);
            let written = flush(&mut engine, None);
            assert_eq!((late(&written), written.events.len()), (0, 4));
        }
    }

    #[test]
    fn days_on_which_a_worker_was_cut_off_are_marked_and_no_others() {
        const DAY_MS: u64 = 86_400_000;
        let mut engine = Engine::new(CONFIG, 0);
        engine.suspect(1);
        assert!(engine.is_suspicious());
        let later = NOW + 2 * DAY_MS;
        feed(&mut engine, &chunk(&[(NOW, NOW), (later, later)], 0), later);
        assert!(!engine.is_suspicious());
        let marked: Vec<_> = flush(&mut engine, None)
            .outcomes
            .into_iter()
            .map(|row| (row.outcome, row.minute, row.count))
            .collect();
        let minute = u32::try_from(NOW / 60_000 * 60).unwrap();
        assert_eq!(marked, [("cut_off".to_owned(), minute, 0)]);
    }

    #[test]
    fn a_checkpoint_that_believed_a_stamp_of_next_year_is_mended_by_a_restart() {
        let mut engine = Engine::new(CONFIG, 0);
        engine.read_to(1, NOW + YEAR_MS);
        let mut engine = Engine::from_bytes(CONFIG, &engine.to_bytes().unwrap()).unwrap();
        engine.believe_to(NOW);
        feed(&mut engine, &chunk(&[(NOW, NOW)], 1), NOW);
        assert_eq!(late(&flush(&mut engine, None)), 0);
    }
}
