//! Compression of record batches, with kept tables: LZ4 as a frame of independent blocks,
//! which is what Kafka's Java code reads, or Zstandard.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::config::Compression;

/// Magic, version 1 with independent blocks of 64 KiB at most, no checksums but that of
/// these bytes themselves, which is the last one.
const LZ4_HEAD: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const LZ4_END: [u8; 4] = [0; 4];
/// One byte less than 64 KiB, and the compressor takes its larger and slower table.
const LZ4_BLOCK_BYTES: usize = (64 << 10) - 2;
/// In a block's length: its bytes are not compressed.
const LZ4_STORED: u32 = 1 << 31;
/// Kafka's own default.
const ZSTD_LEVEL: i32 = 3;

const CODEC_LZ4: i16 = 3;
const CODEC_ZSTD: i16 = 4;

pub(super) enum Compressor {
    None,
    Lz4(Box<CompressTable>),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Lz4(_) => "Lz4",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Compressor {
    pub(super) fn new(wanted: Compression) -> Self {
        match wanted {
            Compression::None => Self::None,
            Compression::Lz4 => Self::Lz4(Box::new(CompressTable::small())),
            // Fails only without memory; records go uncompressed then.
            Compression::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL).map_or(Self::None, Self::Zstd),
        }
    }

    /// Appends `body` to `out`, compressed, and returns Kafka's number of the method; 0 and
    /// nothing of use in `out` if it stays as it is.
    pub(super) fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) -> i16 {
        match self {
            Self::None => 0,
            Self::Lz4(table) => lz4(table, body, out),
            Self::Zstd(compressor) => zstd(compressor, body, out),
        }
    }
}

fn lz4(table: &mut CompressTable, body: &[u8], out: &mut Vec<u8>) -> i16 {
    out.extend_from_slice(&LZ4_HEAD);
    for block in body.chunks(LZ4_BLOCK_BYTES) {
        let at = out.len();
        out.resize(at + 4 + get_maximum_output_size(block.len()), 0);
        let (head, room) = out[at..].split_at_mut(4);
        let packed = compress_into_with_table(block, room, table).unwrap_or(usize::MAX);
        let (len, mark) = if packed < block.len() {
            (packed, 0)
        } else {
            room[..block.len()].copy_from_slice(block);
            (block.len(), LZ4_STORED)
        };
        let word = u32::try_from(len).unwrap_or(0) | mark;
        head.copy_from_slice(&word.to_le_bytes());
        out.truncate(at + 4 + len);
    }
    out.extend_from_slice(&LZ4_END);
    CODEC_LZ4
}

fn zstd(compressor: &mut zstd::bulk::Compressor<'static>, body: &[u8], out: &mut Vec<u8>) -> i16 {
    let at = out.len();
    out.resize(at + zstd::zstd_safe::compress_bound(body.len()), 0);
    match compressor.compress_to_buffer(body, &mut out[at..]) {
        Ok(len) => {
            out.truncate(at + len);
            CODEC_ZSTD
        }
        Err(_) => 0,
    }
}
