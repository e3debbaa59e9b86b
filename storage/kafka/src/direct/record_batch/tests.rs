//! What is written here is read by another implementation of the protocol.

use bytes::Bytes;
use kafka_protocol::records::{Compression as Codec, Record, RecordBatchDecoder};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::config::Compression;
use crate::record::{OVERFLOW_KIND, SEAL_KIND};

type Given = (Option<Vec<u8>>, Option<Vec<u8>>, Option<&'static [u8]>);

const NOW_MS: i64 = 1_700_000_000_123;

fn value() -> impl Strategy<Value = Vec<u8>> {
    // Noise, repeats that compress well, and what is longer than a block of LZ4.
    prop_oneof![
        8 => vec(any::<u8>(), 0..2000),
        8 => (any::<u8>(), 0..5000_usize).prop_map(|(byte, len)| vec![byte; len]),
        1 => (any::<u8>(), 60_000..200_000_usize)
            .prop_map(|(seed, len)| (0..len).map(|at| u8::try_from(at / 97 % 256).unwrap() ^ seed).collect()),
    ]
}

fn given() -> impl Strategy<Value = Vec<Given>> {
    let kind = prop_oneof![8 => Just(None), 1 => Just(Some(SEAL_KIND)), 1 => Just(Some(OVERFLOW_KIND))];
    vec((option::of(vec(any::<u8>(), 0..300)), option::of(value()), kind), 1..120)
}

fn decode(bytes: &[u8]) -> Vec<Record> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    let unpack = |packed: &mut Bytes, codec| {
        let mut out = Vec::new();
        match codec {
            Codec::None => out.extend_from_slice(packed),
            Codec::Lz4 => {
                let mut frame = lz4_flex::frame::FrameDecoder::new(&packed[..]);
                std::io::copy(&mut frame, &mut out).expect("a frame of LZ4");
            }
            Codec::Zstd => out = zstd::decode_all(&packed[..]).expect("a frame of Zstandard"),
            other => panic!("{other:?}"),
        }
        packed.clear();
        Ok(Bytes::from(out))
    };
    let decoded = RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(unpack));
    let decoded = decoded.expect("a record batch with a right checksum");
    assert!(bytes.is_empty(), "its length is right");
    decoded.records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn another_implementation_reads_what_was_written(
        given in given(),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)],
        max in 100..300_000_usize,
        sequence in 0..1_000_000_000_i32,
    ) {
        let mut compressor = Compressor::new(compression);
        let mut buffer = Buffer::default();
        // A second use of the same memory is like the first.
        for round in 0..2 {
            for (key, value, kind) in &given {
                let content = Content { key: key.as_deref(), value: value.as_deref(), kind: *kind };
                buffer.push(content, max, NOW_MS, &mut compressor);
            }
            buffer.close(NOW_MS, &mut compressor);
            let identity = Identity { producer_id: 1 << 40 | round, epoch: 7 };
            prop_assert_eq!(buffer.stamp(identity, sequence), sequence + i32::try_from(given.len()).unwrap());
            let mut expected = given.iter().zip(sequence..);
            for chunk in buffer.chunks() {
                let bytes = buffer.bytes(*chunk);
                prop_assert!(bytes.len() <= max || chunk.records == 1, "{} bytes", bytes.len());
                for record in decode(bytes) {
                    let ((key, value, kind), sequence) = expected.next().expect("no more than was given");
                    prop_assert_eq!(record.key.as_deref(), key.as_deref());
                    prop_assert_eq!(record.value.as_deref(), value.as_deref());
                    prop_assert_eq!(record.sequence, sequence);
                    prop_assert_eq!((record.producer_id, record.producer_epoch), (1 << 40 | round, 7));
                    prop_assert_eq!(record.timestamp, NOW_MS);
                    let header = record.headers.iter().next();
                    let header = header.map(|(name, content)| (name.to_string(), content.clone().unwrap()));
                    let wanted = kind.map(|kind| (KIND_HEADER.to_owned(), Bytes::from_static(kind)));
                    prop_assert_eq!(header, wanted);
                }
            }
            prop_assert!(expected.next().is_none(), "all is there");
            buffer.clear();
        }
    }
}

#[test]
fn sequences_go_on_at_zero_after_the_largest() {
    assert_eq!(after(0, 5), 5);
    assert_eq!(after(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(after(i32::MAX, 1), 0);
    assert_eq!(after(i32::MAX - 2, 10), 7);
}

#[test]
fn much_memory_is_given_back_and_a_little_is_kept() {
    let mut compressor = Compressor::new(Compression::Lz4);
    let mut buffer = Buffer::default();
    for (len, kept) in [(1000, 1..20_000), (1 << 20, 0..2 * KEPT_BYTES_MAX + 1)] {
        let value = vec![b'x'; len];
        buffer.push(Content { key: None, value: Some(&value), kind: None }, 8 << 20, 0, &mut compressor);
        buffer.close(0, &mut compressor);
        buffer.clear();
        assert!(kept.contains(&buffer.capacity()), "{} bytes of {len} were kept", buffer.capacity());
    }
}
