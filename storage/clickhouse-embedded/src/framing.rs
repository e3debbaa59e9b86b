//! ClickHouse's own block framing (`compress=1`, `decompress=1`): a checksum of
//! 16 bytes, a method byte, two lengths, the payload.
//!
//! Must stay true: no length from outside is trusted before it is compared
//! with [`BLOCK_BYTES_MAX`], no payload before its checksum.

use std::io::{self, Read, Write};

/// Largest block that is accepted; clients send about 1 MiB.
const BLOCK_BYTES_MAX: usize = 256 << 20;
/// Size of the blocks written.
const BLOCK_BYTES: usize = 1 << 20;
/// Method byte and the two lengths.
const HEADER_BYTES: usize = 9;
const CHECKSUM_BYTES: usize = 16;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;

fn checksum(framed: &[u8]) -> [u8; CHECKSUM_BYTES] {
    // The halves travel in the order low, high; the function gives high, low.
    cityhash_rs::cityhash_102_128(framed).rotate_left(64).to_le_bytes()
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// Reads blocks and gives their payload.
pub(crate) struct BlockReader<R> {
    source: R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> BlockReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, block: Vec::new(), at: 0 }
    }

    /// Reads the next block; false at a clean end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut head = [0; CHECKSUM_BYTES + HEADER_BYTES];
        let mut filled = 0;
        while filled < head.len() {
            match self.source.read(&mut head[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(invalid("a block is cut off")),
                read => filled += read,
            }
        }
        let (sum, header) = head.split_at(CHECKSUM_BYTES);
        let compressed = length(&header[1..5])?;
        let plain = length(&header[5..9])?;
        let payload = compressed.checked_sub(HEADER_BYTES).ok_or_else(|| invalid("a block is too short"))?;
        let mut framed = Vec::with_capacity(compressed.min(BLOCK_BYTES));
        framed.extend_from_slice(header);
        let read = (&mut self.source).take(payload as u64).read_to_end(&mut framed)?;
        if read != payload {
            return Err(invalid("a block is cut off"));
        }
        if checksum(&framed) != sum {
            return Err(invalid("the checksum of a block does not match"));
        }
        self.block = unpacked(header[0], &framed[HEADER_BYTES..], plain)?;
        self.at = 0;
        Ok(true)
    }
}

fn length(bytes: &[u8]) -> io::Result<usize> {
    let bytes: [u8; 4] = bytes.try_into().map_err(|_| invalid("a block is cut off"))?;
    let length = u32::from_le_bytes(bytes) as usize;
    if length > BLOCK_BYTES_MAX { Err(invalid("a block is too large")) } else { Ok(length) }
}

fn unpacked(method: u8, payload: &[u8], plain: usize) -> io::Result<Vec<u8>> {
    let block = match method {
        METHOD_NONE => payload.to_vec(),
        METHOD_LZ4 => lz4_flex::block::decompress(payload, plain).map_err(io::Error::other)?,
        METHOD_ZSTD => zstd::bulk::decompress(payload, plain)?,
        _ => return Err(invalid("unknown compression method; LZ4, ZSTD and NONE are known")),
    };
    if block.len() == plain { Ok(block) } else { Err(invalid("a block has another length than it says")) }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let taken = out.len().min(self.block.len() - self.at);
        out[..taken].copy_from_slice(&self.block[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

/// Writes what it is given as LZ4 blocks.
pub(crate) struct BlockWriter<W: Write> {
    target: W,
    waiting: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    pub(crate) fn new(target: W) -> Self {
        Self { target, waiting: Vec::new() }
    }

    fn write_block(&mut self, count: usize) -> io::Result<()> {
        let payload = lz4_flex::block::compress(&self.waiting[..count]);
        let compressed = u32::try_from(payload.len() + HEADER_BYTES).map_err(io::Error::other)?;
        let plain = u32::try_from(count).map_err(io::Error::other)?;
        let mut framed = Vec::with_capacity(HEADER_BYTES + payload.len());
        framed.push(METHOD_LZ4);
        framed.extend_from_slice(&compressed.to_le_bytes());
        framed.extend_from_slice(&plain.to_le_bytes());
        framed.extend_from_slice(&payload);
        self.waiting.drain(..count);
        self.target.write_all(&checksum(&framed))?;
        self.target.write_all(&framed)
    }

    /// Writes what is left and gives the target back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.waiting.is_empty() {
            self.write_block(self.waiting.len())?;
        }
        Ok(self.target)
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(data);
        while self.waiting.len() >= BLOCK_BYTES {
            self.write_block(BLOCK_BYTES)?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(data: &[u8]) -> Vec<u8> {
        let mut writer = BlockWriter::new(Vec::new());
        writer.write_all(data).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn blocks_give_back_what_was_written() {
        let data: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut back = Vec::new();
        BlockReader::new(&blocks(&data)[..]).read_to_end(&mut back).unwrap();
        assert!(back == data);
    }

    #[test]
    fn a_flipped_or_missing_byte_is_an_error() {
        let whole = blocks(b"some rows");
        for position in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[position] ^= 1;
            assert!(BlockReader::new(&flipped[..]).read_to_end(&mut Vec::new()).is_err(), "{position}");
            if position > 0 {
                let cut = &whole[..position];
                assert!(BlockReader::new(cut).read_to_end(&mut Vec::new()).is_err(), "{position}");
            }
        }
    }
}
