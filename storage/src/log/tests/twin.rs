use proptest::prelude::*;

use super::*;

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Append { records: Vec<(u8, Vec<u8>)>, receipts: Vec<(u8, u8)> },
    Seal,
    Reopen,
    Read { from: u64, max_bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let record = (1_u8..=2, proptest::collection::vec(any::<u8>(), 0..40));
    let append =
        (proptest::collection::vec(record, 0..5), proptest::collection::vec((0_u8..3, 0_u8..2), 0..3))
            .prop_map(|(records, receipts)| Step::Append { records, receipts });
    prop_oneof![
        6 => append,
        1 => Just(Step::Seal),
        1 => Just(Step::Reopen),
        3 => (any::<u64>(), 1_usize..500).prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
    ]
}

fn build(records: &[(u8, Vec<u8>)], receipts: &[(u8, u8)]) -> Batch {
    let mut batch = Batch::new();
    for (topic, value) in records {
        let topic = Topic::from_number(*topic).unwrap();
        batch.push(topic, b"key", |out| out.extend_from_slice(value)).unwrap();
    }
    for (minute, site) in receipts {
        batch.receipt(u64::from(*minute) * 60_000, &format!("site-{site}"), 2, 1, 1);
    }
    batch
}

/// All chunks that a source gives now.
fn drain(source: &mut impl EventSource, max_bytes: usize) -> Vec<Chunk> {
    std::iter::from_fn(|| source.try_next(max_bytes).unwrap()).collect()
}

fn records(chunks: &[Chunk]) -> Vec<Record<'_>> {
    chunks.iter().flat_map(Chunk::records).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn the_log_on_disk_and_its_twin_in_memory_never_differ(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock: Clock = Arc::new(|| 1234);
        let config = LogConfig { clock: Arc::clone(&clock), segment_bytes: 300, ..LogConfig::default() };
        let mut log = Log::open(dir.path(), config.clone()).unwrap();
        let twin = MemoryLog::new(clock);
        for step in steps {
            match step {
                Step::Append { records, receipts } => {
                    let batch = build(&records, &receipts);
                    let there = runtime.block_on(log.appender().append(batch.clone()));
                    prop_assert_eq!(there, twin.append_now(&batch));
                }
                Step::Seal => prop_assert_eq!(runtime.block_on(log.appender().seal()), twin.seal()),
                Step::Reopen => {
                    drop(log);
                    log = Log::open(dir.path(), config.clone()).unwrap();
                }
                Step::Read { from, max_bytes } => {
                    let from = from % (twin.end_offset() + 1);
                    let ours = drain(&mut log.reader(from).unwrap(), max_bytes);
                    let theirs = drain(&mut twin.reader(from).unwrap(), max_bytes);
                    prop_assert_eq!(records(&ours), records(&theirs));
                    prop_assert!(records(&ours).iter().zip(from..).all(|(r, offset)| r.offset == offset));
                }
            }
            prop_assert_eq!(log.end_offset(), twin.end_offset());
        }
    }
}
