//! The bytes on disk: log segments made of frames, and checkpoints made of blocks. All numbers are little-endian.
//!
//! ```text
//! segment     = magic "SPSEG001" · salt u64 · base revision u64 · first sequence u64 · crc u32 · 0 u32 · frame*
//! frame       = payload length u32 · crc u32 · sequence u64 · base revision u64 · unix ms u64 · payload
//! payload     = item*
//! item        = 1 · operations u32 · operation*          a commit; its revision is base + its place among the commits
//!             | 2 · before revision u64                  a compaction
//! operation   = 1 · key length u16 · key · value length u32 · value     put
//!             | 2 · key length u16 · key                                delete
//!
//! checkpoint  = magic "SPCKP001" · revision u64 · unix ms u64 · crc u32 · 0 u32 · block* · end
//! block       = length u32 · crc u32 · entry*
//! entry       = key length u16 · value length u32 · created u64 · modified u64 · key · value
//! end         = 0xFFFFFFFF u32 · crc u32 · entries u64
//! ```
//!
//! # Guarantees
//! A frame is one group of commits, written by one write and covered by one fsync, and the next frame is written only after that
//! fsync. So *damage with a valid frame of a later sequence after it* cannot be a torn write: it is corruption. Damage with nothing
//! valid after it is the torn tail of a write that was never acknowledged.
//!
//! # How one could get it wrong
//! - A CRC that does not cover the place: a value may contain bytes that look like a frame. The salt of the segment, random and
//!   unknown to clients, goes into each CRC.
//! - A length read before it is checked: lengths are bounded by what the file holds before anything is allocated.

use bytes::Bytes;
use setpoint_store::{Key, MAX_KEY_BYTES, MAX_TXN_BYTES, Op, Revision, Versioned};

pub(crate) const SEGMENT_MAGIC: &[u8; 8] = b"SPSEG001";
pub(crate) const CHECKPOINT_MAGIC: &[u8; 8] = b"SPCKP001";
pub(crate) const SEGMENT_HEADER_BYTES: usize = 40;
pub(crate) const CHECKPOINT_HEADER_BYTES: usize = 32;
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
const BLOCK_HEADER_BYTES: usize = 8;
const END_OF_BLOCKS: u32 = u32::MAX;

/// Longest frame: the writer stops to gather at 4 MiB and 1,024 operations, and the last commit it took may add
/// [`MAX_TXN_BYTES`] and 128 operations with their headers. Twice 4 MiB + 1,152 × 16 bytes, rounded up.
pub(crate) const MAX_FRAME_BYTES: usize = 2 * MAX_TXN_BYTES + (1 << 20);
/// Longest block: it is closed at 256 KiB, and its last entry may be a whole commit's value.
const MAX_BLOCK_BYTES: usize = MAX_TXN_BYTES + (1 << 20);

/// The name of the segment whose first commit follows `base`. Names sort as their revisions do.
pub(crate) fn segment_name(base: Revision) -> String {
    format!("log-{:020}", base.get())
}

/// The base revision in a segment's name.
pub(crate) fn parse_segment_name(name: &str) -> Option<Revision> {
    parse_numbered(name, "log-")
}

/// The name of the checkpoint of the state at `revision`.
pub(crate) fn checkpoint_name(revision: Revision) -> String {
    format!("checkpoint-{:020}", revision.get())
}

/// The revision in a checkpoint's name.
pub(crate) fn parse_checkpoint_name(name: &str) -> Option<Revision> {
    parse_numbered(name, "checkpoint-")
}

fn parse_numbered(name: &str, prefix: &str) -> Option<Revision> {
    let digits = name.strip_prefix(prefix)?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().map(Revision::new)
}

/// What stands at the beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) salt: u64,
    pub(crate) base: Revision,
    pub(crate) first_sequence: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = SEGMENT_MAGIC.to_vec();
        for n in [self.salt, self.base.get(), self.first_sequence] {
            out.extend(n.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend(crc.to_le_bytes());
        out.extend([0; 4]);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut r = Reader::checked(bytes, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC)?;
        Ok(Self {
            salt: r.u64()?,
            base: Revision::new(r.u64()?),
            first_sequence: r.u64()?,
        })
    }
}

/// One thing that a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Commit(Vec<Op>),
    Compact(Revision),
}

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) sequence: u64,
    pub(crate) base: Revision,
    pub(crate) unix_ms: u64,
    pub(crate) items: Vec<Item>,
    /// Bytes in the file, header included.
    pub(crate) bytes: usize,
}

/// Builds one frame in a buffer that is used again for the next.
#[derive(Default)]
pub(crate) struct FrameWriter {
    buffer: Vec<u8>,
}

impl FrameWriter {
    /// Forgets the last frame.
    pub(crate) fn begin(&mut self) {
        self.buffer.clear();
        // One large commit must not hold its memory for ever; 1 MiB holds 64 clients' usual objects many times.
        self.buffer.shrink_to(1 << 20);
        self.buffer.resize(FRAME_HEADER_BYTES, 0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() <= FRAME_HEADER_BYTES
    }

    pub(crate) fn commit(&mut self, ops: &[Op]) {
        let b = &mut self.buffer;
        b.push(1);
        b.extend((ops.len() as u32).to_le_bytes());
        for op in ops {
            let (kind, key) = match op {
                Op::Put(key, _) => (1, key.as_str()),
                Op::Delete(key) => (2, key.as_str()),
            };
            b.push(kind);
            b.extend((key.len() as u16).to_le_bytes());
            b.extend(key.as_bytes());
            if let Op::Put(_, value) = op {
                b.extend((value.len() as u32).to_le_bytes());
                b.extend_from_slice(value);
            }
        }
    }

    pub(crate) fn compact(&mut self, before: Revision) {
        self.buffer.push(2);
        self.buffer.extend(before.get().to_le_bytes());
    }

    /// The bytes to write.
    pub(crate) fn finish(&mut self, salt: u64, sequence: u64, base: Revision, unix_ms: u64) -> &[u8] {
        let b = &mut self.buffer;
        let len = (b.len() - FRAME_HEADER_BYTES) as u32;
        b[..4].copy_from_slice(&len.to_le_bytes());
        b[8..16].copy_from_slice(&sequence.to_le_bytes());
        b[16..24].copy_from_slice(&base.get().to_le_bytes());
        b[24..32].copy_from_slice(&unix_ms.to_le_bytes());
        let crc = frame_crc(salt, b);
        b[4..8].copy_from_slice(&crc.to_le_bytes());
        b
    }
}

fn frame_crc(salt: u64, frame: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&salt.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &frame[..4]);
    crc32c::crc32c_append(crc, &frame[8..])
}

/// The bytes of the whole frame that `bytes` begins with, if its length is possible and its checksum is right.
fn valid_frame(salt: u64, bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let total = len.checked_add(FRAME_HEADER_BYTES).filter(|n| *n <= MAX_FRAME_BYTES)?;
    let frame = bytes.get(..total)?;
    let crc = u32::from_le_bytes(frame[4..8].try_into().ok()?);
    (crc == frame_crc(salt, frame)).then_some(frame)
}

fn frame_sequence(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?))
}

/// What stands at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole frame.
    Frame(Frame),
    /// The end of the file.
    End,
    /// A write that did not finish, with nothing valid after it.
    Torn,
    /// Damage to what had been acknowledged.
    Damaged(String),
}

/// Reads what stands at `offset` of a segment; `expected` is the sequence that must come next.
pub(crate) fn next_frame(segment: &[u8], salt: u64, offset: usize, expected: u64) -> Next {
    let rest = &segment[offset..];
    if rest.is_empty() {
        return Next::End;
    }
    let Some(frame) = valid_frame(salt, rest) else {
        return damage_at(rest, salt, expected);
    };
    match frame_sequence(frame) {
        Some(found) if found == expected => {}
        found => return Next::Damaged(format!("frame {expected} is missing; found {found:?}")),
    }
    match decode_frame(frame) {
        Ok(frame) => Next::Frame(frame),
        Err(why) => Next::Damaged(format!("frame {expected} has a good checksum but {why}")),
    }
}

fn damage_at(rest: &[u8], salt: u64, expected: u64) -> Next {
    if rest.len() > MAX_FRAME_BYTES {
        return Next::Damaged(format!(
            "{} bytes are not a frame; the longest write is {MAX_FRAME_BYTES}",
            rest.len()
        ));
    }
    let later = |at: &usize| {
        let bytes = &rest[*at..];
        // Each frame has its header at least, so a file this long cannot hold sequences further on than that.
        let most = expected + (rest.len() / FRAME_HEADER_BYTES) as u64;
        frame_sequence(bytes).is_some_and(|n| n > expected && n <= most) && valid_frame(salt, bytes).is_some()
    };
    match (1..rest.len()).find(later) {
        Some(at) => Next::Damaged(format!(
            "frame {expected} is damaged, and a later one follows {at} bytes on"
        )),
        None => Next::Torn,
    }
}

fn decode_frame(frame: &[u8]) -> Result<Frame, &'static str> {
    let mut r = Reader { rest: &frame[8..] };
    let (sequence, base, unix_ms) = (r.u64()?, Revision::new(r.u64()?), r.u64()?);
    let mut items = Vec::new();
    while !r.rest.is_empty() {
        items.push(match r.u8()? {
            1 => {
                let count = r.u32()? as usize;
                // An operation has at least 3 bytes, so a wrong count cannot make us allocate more than the frame has.
                let mut ops = Vec::with_capacity(count.min(r.rest.len() / 3));
                for _ in 0..count {
                    ops.push(r.op()?);
                }
                Item::Commit(ops)
            }
            2 => Item::Compact(Revision::new(r.u64()?)),
            _ => return Err("holds an unknown item"),
        });
    }
    Ok(Frame {
        sequence,
        base,
        unix_ms,
        items,
        bytes: frame.len(),
    })
}

/// The first bytes of a checkpoint.
pub(crate) fn checkpoint_header(revision: Revision, unix_ms: u64) -> Vec<u8> {
    let mut out = CHECKPOINT_MAGIC.to_vec();
    out.extend(revision.get().to_le_bytes());
    out.extend(unix_ms.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    out.extend([0; 4]);
    out
}

/// The revision of the checkpoint that begins with these bytes.
pub(crate) fn decode_checkpoint_header(bytes: &[u8]) -> Result<Revision, &'static str> {
    let mut r = Reader::checked(bytes, CHECKPOINT_HEADER_BYTES, CHECKPOINT_MAGIC)?;
    Ok(Revision::new(r.u64()?))
}

/// Builds the blocks of a checkpoint.
#[derive(Default)]
pub(crate) struct BlockWriter {
    buffer: Vec<u8>,
    entries: u64,
}

impl BlockWriter {
    pub(crate) fn add(&mut self, key: &Key, v: &Versioned) {
        if self.buffer.is_empty() {
            self.buffer.resize(BLOCK_HEADER_BYTES, 0);
        }
        let (b, key) = (&mut self.buffer, key.as_str());
        b.extend((key.len() as u16).to_le_bytes());
        b.extend((v.value.len() as u32).to_le_bytes());
        b.extend(v.created.get().to_le_bytes());
        b.extend(v.modified.get().to_le_bytes());
        b.extend(key.as_bytes());
        b.extend_from_slice(&v.value);
        self.entries += 1;
    }

    /// Whether the block is long enough to be written.
    pub(crate) fn full(&self) -> bool {
        self.buffer.len() >= 256 << 10
    }

    /// The bytes of the block; the next `add` begins a new one. `None` when there is nothing.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            return None;
        }
        let len = (self.buffer.len() - BLOCK_HEADER_BYTES) as u32;
        let crc = crc32c::crc32c(&self.buffer[BLOCK_HEADER_BYTES..]);
        self.buffer[..4].copy_from_slice(&len.to_le_bytes());
        self.buffer[4..8].copy_from_slice(&crc.to_le_bytes());
        Some(std::mem::take(&mut self.buffer))
    }

    /// The bytes that close the checkpoint.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut out = END_OF_BLOCKS.to_le_bytes().to_vec();
        out.extend(crc32c::crc32c(&self.entries.to_le_bytes()).to_le_bytes());
        out.extend(self.entries.to_le_bytes());
        out
    }
}

/// What the header of a block says comes next.
pub(crate) enum BlockHeader {
    /// So many bytes with this checksum.
    Block { len: usize, crc: u32 },
    /// The end: 8 bytes with this checksum.
    End { crc: u32 },
}

/// Reads the 8 bytes before a block.
pub(crate) fn decode_block_header(bytes: [u8; BLOCK_HEADER_BYTES]) -> Result<BlockHeader, &'static str> {
    let mut r = Reader { rest: &bytes };
    let (len, crc) = (r.u32()?, r.u32()?);
    match len {
        END_OF_BLOCKS => Ok(BlockHeader::End { crc }),
        _ if len as usize <= MAX_BLOCK_BYTES => Ok(BlockHeader::Block { len: len as usize, crc }),
        _ => Err("a block is longer than any that is written"),
    }
}

/// Gives each entry of a block, whose checksum was found right, to `each`.
pub(crate) fn decode_block(block: &[u8], mut each: impl FnMut(Key, Versioned)) -> Result<(), &'static str> {
    let mut r = Reader { rest: block };
    while !r.rest.is_empty() {
        let (key_len, value_len) = (r.u16()? as usize, r.u32()? as usize);
        let (created, modified) = (Revision::new(r.u64()?), Revision::new(r.u64()?));
        let key = r.key(key_len)?;
        let value = Bytes::copy_from_slice(r.take(value_len)?);
        each(
            key,
            Versioned {
                value,
                created,
                modified,
            },
        );
    }
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader behind the magic of a header of `len` bytes whose checksum stands 8 bytes before its end.
    fn checked(bytes: &'a [u8], len: usize, magic: &[u8; 8]) -> Result<Self, &'static str> {
        let header = bytes.get(..len).ok_or("the header is cut off")?;
        let crc = header[len - 8..len - 4]
            .try_into()
            .map(u32::from_le_bytes)
            .map_err(|_| "the header is cut off")?;
        if crc != crc32c::crc32c(&header[..len - 8]) {
            return Err("the header's checksum is wrong");
        }
        if &header[..8] != magic {
            return Err("the file is of another format or of a later version");
        }
        Ok(Self { rest: &header[8..] })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or("ends early")?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.take(N)?.try_into().map_err(|_| "ends early")
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn key(&mut self, len: usize) -> Result<Key, &'static str> {
        if len == 0 || len > MAX_KEY_BYTES {
            return Err("has a key of an impossible length");
        }
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| "has a key that is not UTF-8")?;
        Ok(Key::new(text))
    }

    fn op(&mut self) -> Result<Op, &'static str> {
        let kind = self.u8()?;
        let len = self.u16()? as usize;
        let key = self.key(len)?;
        match kind {
            1 => {
                let len = self.u32()? as usize;
                Ok(Op::Put(key, Bytes::copy_from_slice(self.take(len)?)))
            }
            2 => Ok(Op::Delete(key)),
            _ => Err("holds an unknown operation"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x5eed;

    fn frame(sequence: u64, value: &'static [u8]) -> Vec<u8> {
        let mut w = FrameWriter::default();
        w.begin();
        w.commit(&[
            Op::Put(Key::new("/a"), Bytes::from_static(value)),
            Op::Delete(Key::new("/b")),
        ]);
        w.compact(Revision::new(3));
        w.finish(SALT, sequence, Revision::new(sequence), 7).to_vec()
    }

    #[test]
    fn a_frame_comes_back_as_it_was_written() {
        let bytes = frame(5, b"value");
        let ops = vec![
            Op::Put(Key::new("/a"), Bytes::from_static(b"value")),
            Op::Delete(Key::new("/b")),
        ];
        let items = vec![Item::Commit(ops), Item::Compact(Revision::new(3))];
        let expected = Frame {
            sequence: 5,
            base: Revision::new(5),
            unix_ms: 7,
            items,
            bytes: bytes.len(),
        };
        assert_eq!(next_frame(&bytes, SALT, 0, 5), Next::Frame(expected));
        assert_eq!(next_frame(&bytes, SALT, bytes.len(), 6), Next::End);
    }

    #[test]
    fn a_cut_or_changed_last_frame_is_torn_and_an_earlier_one_is_damaged() {
        let (first, second) = (frame(5, b"first"), frame(6, b"second"));
        let both = [first.clone(), second].concat();
        for cut in 1..first.len() {
            assert_eq!(next_frame(&first[..cut], SALT, 0, 5), Next::Torn, "cut at {cut}");
        }
        for at in 0..first.len() {
            let mut alone = first.clone();
            alone[at] ^= 0x10;
            assert_eq!(next_frame(&alone, SALT, 0, 5), Next::Torn, "flip at {at}");
            let mut followed = both.clone();
            followed[at] ^= 0x10;
            assert!(
                matches!(next_frame(&followed, SALT, 0, 5), Next::Damaged(_)),
                "flip at {at}"
            );
        }
    }

    #[test]
    fn a_frame_inside_a_value_is_not_taken_for_a_frame() {
        // A client that knows the format, but not the salt, stores what looks like the next frame.
        let mut w = FrameWriter::default();
        w.begin();
        w.commit(&[Op::Delete(Key::new("/x"))]);
        let forged = w.finish(SALT + 1, 6, Revision::new(6), 7).to_vec();
        w.begin();
        w.commit(&[Op::Put(Key::new("/a"), Bytes::from(forged))]);
        let mut bytes = w.finish(SALT, 5, Revision::new(5), 7).to_vec();
        bytes[0] ^= 1;
        assert_eq!(next_frame(&bytes, SALT, 0, 5), Next::Torn);
    }

    #[test]
    fn headers_and_names_come_back_and_any_flip_is_found() {
        let header = SegmentHeader {
            salt: 1,
            base: Revision::new(2),
            first_sequence: 3,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in 0..SEGMENT_HEADER_BYTES - 4 {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(SegmentHeader::decode(&bad).is_err(), "flip at {at}");
        }
        let checkpoint = checkpoint_header(Revision::new(9), 1);
        assert_eq!(checkpoint.len(), CHECKPOINT_HEADER_BYTES);
        assert_eq!(decode_checkpoint_header(&checkpoint), Ok(Revision::new(9)));
        assert_eq!(
            parse_segment_name(&segment_name(Revision::new(77))),
            Some(Revision::new(77))
        );
        assert_eq!(
            parse_checkpoint_name(&checkpoint_name(Revision::new(77))),
            Some(Revision::new(77))
        );
        assert_eq!(parse_segment_name("log-77"), None);
        assert_eq!(parse_checkpoint_name("checkpoint-00000000000000000077.tmp"), None);
    }
}
