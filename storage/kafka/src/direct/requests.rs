//! The requests that a producer sends and what is read of the answers, in versions that
//! brokers from 2.4 on take and the newest still do. Pure.

use super::record_batch::Identity;
use super::trouble::{Code, Trouble};
use super::wire::{Fields, put_bytes, put_i16, put_i32, put_string};

/// A kind of request in the one version that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Api {
    pub(super) name: &'static str,
    key: i16,
    version: i16,
}

const fn api(name: &'static str, key: i16, version: i16) -> Api {
    Api { name, key, version }
}

pub(super) const PRODUCE: Api = api("Produce", 0, 8);
pub(super) const METADATA: Api = api("Metadata", 3, 4);
pub(super) const SASL_HANDSHAKE: Api = api("SaslHandshake", 17, 1);
pub(super) const API_VERSIONS: Api = api("ApiVersions", 18, 0);
pub(super) const INIT_PRODUCER_ID: Api = api("InitProducerId", 22, 1);
pub(super) const SASL_AUTHENTICATE: Api = api("SaslAuthenticate", 36, 1);

const CLIENT_ID: &str = "fanal";

/// Begins a request; `finish` writes the length once the rest is there.
pub(super) fn begin(out: &mut Vec<u8>, api: Api, correlation: i32) {
    out.clear();
    put_i32(out, 0);
    put_i16(out, api.key);
    put_i16(out, api.version);
    put_i32(out, correlation);
    put_string(out, CLIENT_ID);
}

/// Writes the length of a request of which `elsewhere` bytes are in other buffers.
pub(super) fn finish(out: &mut [u8], elsewhere: usize) {
    // Bounded by REQUEST_BYTES_MAX of the producer.
    let length = i32::try_from(out.len() - 4 + elsewhere).unwrap_or(i32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
}

/// Checks that a broker speaks every version that is spoken here.
pub(super) fn check_versions(answer: &[u8]) -> Result<(), Trouble> {
    let mut fields = Fields::new(answer);
    let code = Code(fields.i16()?);
    if code != Code::NONE {
        return Err(Trouble::Answer { what: "a list of versions", code });
    }
    let mut missing = [PRODUCE, METADATA, INIT_PRODUCER_ID].map(Some);
    for _ in 0..fields.count()? {
        let (key, min, max) = (fields.i16()?, fields.i16()?, fields.i16()?);
        for wanted in &mut missing {
            let Some(api) = *wanted else { continue };
            if api.key == key && !(min..=max).contains(&api.version) {
                return Err(Trouble::Version { api: api.name, ours: api.version, min, max });
            }
            if api.key == key {
                *wanted = None;
            }
        }
    }
    match missing.into_iter().flatten().next() {
        Some(api) => Err(Trouble::Version { api: api.name, ours: api.version, min: -1, max: -1 }),
        None => Ok(()),
    }
}

pub(super) fn put_metadata<'t>(out: &mut Vec<u8>, topics: impl ExactSizeIterator<Item = &'t str>) {
    put_i32(out, i32::try_from(topics.len()).unwrap_or(0));
    topics.for_each(|topic| put_string(out, topic));
    // Missing topics are not to be made.
    out.push(0);
}

/// What is read of the cluster's metadata, as it comes.
pub(super) trait MetadataVisitor {
    fn broker(&mut self, id: i32, host: &str, port: i32);
    fn topic(&mut self, name: &str, code: Code);
    /// `leader` is negative while there is none.
    fn partition(&mut self, topic: &str, index: i32, leader: i32);
}

pub(super) fn read_metadata(answer: &[u8], visitor: &mut impl MetadataVisitor) -> Result<(), Trouble> {
    let mut fields = Fields::new(answer);
    let _throttle_ms = fields.i32()?;
    for _ in 0..fields.count()? {
        let (id, host, port) = (fields.i32()?, fields.string()?, fields.i32()?);
        let _rack = fields.nullable_string()?;
        visitor.broker(id, host, port);
    }
    let _cluster = fields.nullable_string()?;
    let _controller = fields.i32()?;
    for _ in 0..fields.count()? {
        let (code, name) = (Code(fields.i16()?), fields.string()?);
        let _internal = fields.bool()?;
        visitor.topic(name, code);
        for _ in 0..fields.count()? {
            let (_code, index, leader) = (fields.i16()?, fields.i32()?, fields.i32()?);
            fields.skip_i32s()?;
            fields.skip_i32s()?;
            visitor.partition(name, index, leader);
        }
    }
    Ok(())
}

pub(super) fn put_init_producer_id(out: &mut Vec<u8>) {
    // No transactional id, and so no timeout of transactions.
    put_i16(out, -1);
    put_i32(out, -1);
}

pub(super) fn read_init_producer_id(answer: &[u8]) -> Result<Identity, Trouble> {
    let mut fields = Fields::new(answer);
    let _throttle_ms = fields.i32()?;
    let code = Code(fields.i16()?);
    if code != Code::NONE {
        return Err(Trouble::Answer { what: "a producer id", code });
    }
    Ok(Identity { producer_id: fields.i64()?, epoch: fields.i16()? })
}

/// What comes before the topics: no transaction, every copy in sync must have the records.
pub(super) fn put_produce(out: &mut Vec<u8>, timeout_ms: i32, topics: i32) {
    put_i16(out, -1);
    put_i16(out, -1);
    put_i32(out, timeout_ms);
    put_i32(out, topics);
}

/// One partition's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Produced<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) code: Code,
    pub(super) base_offset: i64,
    pub(super) detail: Option<&'a str>,
}

pub(super) fn read_produce<'a>(
    answer: &'a [u8],
    mut each: impl FnMut(Produced<'a>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut fields = Fields::new(answer);
    for _ in 0..fields.count()? {
        let topic = fields.string()?;
        for _ in 0..fields.count()? {
            let (partition, code, base_offset) = (fields.i32()?, Code(fields.i16()?), fields.i64()?);
            let (_append_time, _log_start) = (fields.i64()?, fields.i64()?);
            let mut detail = None;
            for _ in 0..fields.count()? {
                let (_record, why) = (fields.i32()?, fields.nullable_string()?);
                detail = detail.or(why);
            }
            let detail = fields.nullable_string()?.or(detail);
            each(Produced { topic, partition, code, base_offset, detail })?;
        }
    }
    Ok(())
}

pub(super) fn put_sasl_handshake(out: &mut Vec<u8>, mechanism: &str) {
    put_string(out, mechanism);
}

pub(super) fn read_sasl_handshake(answer: &[u8], mechanism: &'static str) -> Result<(), Trouble> {
    let mut fields = Fields::new(answer);
    let code = Code(fields.i16()?);
    if code == Code::NONE {
        return Ok(());
    }
    let mut offered = Vec::new();
    for _ in 0..fields.count()? {
        offered.push(fields.string()?);
    }
    let detail = format!("{code}; the broker offers {}", offered.join(", "));
    Err(Trouble::Refused { mechanism, detail })
}

pub(super) fn put_sasl_authenticate(out: &mut Vec<u8>, message: &[u8]) {
    put_bytes(out, message);
}

/// The server's message, and for how long it takes requests (0: for good).
pub(super) fn read_sasl_authenticate<'a>(
    answer: &'a [u8],
    mechanism: &'static str,
) -> Result<(&'a [u8], u64), Trouble> {
    let mut fields = Fields::new(answer);
    let (code, why) = (Code(fields.i16()?), fields.nullable_string()?);
    if code != Code::NONE {
        let detail = why.map_or_else(|| code.to_string(), str::to_owned);
        return Err(Trouble::Refused { mechanism, detail });
    }
    let message = fields.bytes()?;
    Ok((message, u64::try_from(fields.i64()?).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    struct Anything;

    impl MetadataVisitor for Anything {
        fn broker(&mut self, _: i32, _: &str, _: i32) {}
        fn topic(&mut self, _: &str, _: Code) {}
        fn partition(&mut self, _: &str, _: i32, _: i32) {}
    }

    fn read_all(answer: &[u8]) {
        check_versions(answer).ok();
        read_metadata(answer, &mut Anything).ok();
        read_init_producer_id(answer).ok();
        read_produce(answer, |_| Ok(())).ok();
        read_sasl_handshake(answer, "PLAIN").ok();
        read_sasl_authenticate(answer, "PLAIN").ok();
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_answer_however_broken_ends_in_a_panic(
            noise in vec(prop_oneof![4 => Just(0_u8), 1 => 1_u8..8, 1 => any::<u8>()], 0..300),
        ) {
            read_all(&noise);
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_is_refused() {
        let mut whole = Vec::new();
        put_i32(&mut whole, 1);
        put_string(&mut whole, "beacons");
        put_i32(&mut whole, 1);
        put_i32(&mut whole, 3);
        put_i16(&mut whole, 87);
        whole.extend_from_slice(&[0; 24]);
        put_i32(&mut whole, 1);
        put_i32(&mut whole, 0);
        put_string(&mut whole, "the record's fault");
        put_i16(&mut whole, -1);
        let mut seen = None;
        read_produce(&whole, |p| {
            seen = Some((p.topic.to_owned(), p.partition, p.code, p.detail.map(str::to_owned)));
            Ok(())
        })
        .unwrap();
        let why = Some("the record's fault".to_owned());
        assert_eq!(seen, Some(("beacons".to_owned(), 3, Code(87), why)));
        for len in 0..whole.len() {
            assert!(read_produce(&whole[..len], |_| Ok(())).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_broker_that_is_too_old_or_too_new_is_named() {
        let answer = |produce: [i16; 2]| {
            let mut answer = vec![0, 0, 0, 0, 0, 3];
            for [key, min, max] in [[0, produce[0], produce[1]], [3, 0, 13], [22, 0, 5]] {
                for number in [key, min, max] {
                    put_i16(&mut answer, number);
                }
            }
            answer
        };
        check_versions(&answer([3, 13])).unwrap();
        for versions in [[0, 7], [9, 20]] {
            let error = check_versions(&answer(versions)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("versions {} to {} of Produce", versions[0], versions[1])),
                "{error}"
            );
        }
    }
}
