//! The hand-written encoding against the published `.proto`, read by an
//! ordinary Protobuf implementation that knows nothing of ours.
#![allow(clippy::unwrap_used, reason = "a test panics where its claim does not hold")]

use fanal_model::{Beacon, DeadLetter, Receipt, Source};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};

fn pool() -> DescriptorPool {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["fanal/v1/beacon.proto"], [folder]).unwrap();
    DescriptorPool::decode(files.encode_to_vec().as_slice()).unwrap()
}

fn read(pool: &DescriptorPool, name: &str, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(pool.get_message_by_name(name).unwrap(), bytes).unwrap()
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).unwrap().as_str().unwrap().to_owned()
}

fn bytes(message: &DynamicMessage, field: &str) -> Vec<u8> {
    message.get_field_by_name(field).unwrap().as_bytes().unwrap().to_vec()
}

fn number(message: &DynamicMessage, field: &str) -> u64 {
    match &*message.get_field_by_name(field).unwrap() {
        Value::U64(n) => *n,
        Value::U32(n) => u64::from(*n),
        Value::EnumNumber(n) => u64::try_from(*n).unwrap(),
        other => panic!("{field} is {other:?}"),
    }
}

proptest! {
    #[test]
    fn a_beacon_reads_as_the_published_proto_and_back(
        at in any::<u64>(), texts in prop::collection::vec(".{0,40}", 7), line in prop::collection::vec(any::<u8>(), 0..300),
        agent in prop::collection::vec(any::<u8>(), 0..100),
        robot in prop::option::of("[a-z_]{0,12}"), line_number in any::<u32>(), visitor_lines in any::<u32>(),
    ) {
        let beacon = Beacon {
            received_at_ms: at, site_code: &texts[0], visitor_code: &texts[1], mapping_value: &texts[2],
            client_address: &texts[3], user_agent: &agent, referer: b"https://x/", source: Source::NginxLog,
            node: &texts[4], line: &line, line_number, visitor_lines, sdk_name: &texts[5], sdk_version: &texts[6],
            robot: robot.as_deref(),
        };
        let mut encoded = Vec::new();
        beacon.encode(&mut encoded);
        prop_assert_eq!(Beacon::decode(&encoded).unwrap(), beacon);

        let theirs = read(&pool(), "fanal.v1.Beacon", &encoded);
        for (field, value) in [
            ("site_code", &texts[0]), ("visitor_code", &texts[1]), ("mapping_value", &texts[2]),
            ("client_address", &texts[3]), ("node", &texts[4]), ("sdk_name", &texts[5]), ("sdk_version", &texts[6]),
        ] {
            prop_assert_eq!(&text(&theirs, field), value);
        }
        // Present and empty is not the same as absent.
        prop_assert_eq!(theirs.has_field_by_name("robot"), robot.is_some());
        prop_assert_eq!(text(&theirs, "robot"), robot.clone().unwrap_or_default());
        prop_assert_eq!(&bytes(&theirs, "line"), &line);
        prop_assert_eq!(&bytes(&theirs, "user_agent"), &agent);
        prop_assert_eq!(bytes(&theirs, "referer"), b"https://x/".to_vec());
        prop_assert_eq!(number(&theirs, "received_at_ms"), at);
        prop_assert_eq!(number(&theirs, "source"), 2);
        prop_assert_eq!(number(&theirs, "line_number"), u64::from(line_number));
        prop_assert_eq!(number(&theirs, "visitor_lines"), u64::from(visitor_lines));
        // What their encoder writes, our decoder reads.
        let again = theirs.encode_to_vec();
        prop_assert_eq!(Beacon::decode(&again).unwrap(), beacon);
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Beacon::decode(&bytes);
        let _ = DeadLetter::decode(&bytes);
        let _ = Receipt::decode(&bytes);
    }
}

#[test]
fn a_cut_record_is_refused_at_every_length() {
    let mut encoded = Vec::new();
    let beacon = Beacon {
        received_at_ms: 1_700_000_000_000,
        site_code: "site",
        line: b"eventType=activity",
        ..Beacon::default()
    };
    beacon.encode(&mut encoded);
    // A cut at a field border leaves a shorter, valid message; inside a field it must be refused.
    let whole = (1..encoded.len()).filter(|cut| Beacon::decode(&encoded[..*cut]).is_ok()).count();
    assert_eq!(whole, 2);
}

#[test]
fn dead_letters_and_receipts_read_as_the_published_proto() {
    let pool = pool();
    let mut encoded = Vec::new();
    let letter = DeadLetter {
        received_at_ms: 7,
        site_code: "s",
        reason: "binary",
        rules_version: 1,
        source: Source::Http,
        node: "n",
        bytes: b"\0\xff",
    };
    letter.encode(&mut encoded);
    assert_eq!(DeadLetter::decode(&encoded).unwrap(), letter);
    let theirs = read(&pool, "fanal.v1.DeadLetter", &encoded);
    assert_eq!((text(&theirs, "reason"), bytes(&theirs, "bytes")), ("binary".to_owned(), b"\0\xff".to_vec()));
    assert_eq!((number(&theirs, "rules_version"), number(&theirs, "source")), (1, 1));

    encoded.clear();
    let receipt = Receipt { minute_ms: 60_000, site_code: "s", received: 5, accepted: 3, rejected: 2 };
    receipt.encode(&mut encoded);
    assert_eq!(Receipt::decode(&encoded).unwrap(), receipt);
    let theirs = read(&pool, "fanal.v1.Receipt", &encoded);
    let counts = ["minute_ms", "received", "accepted", "rejected"].map(|field| number(&theirs, field));
    assert_eq!(counts, [60_000, 5, 3, 2]);
}
