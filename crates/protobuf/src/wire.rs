//! The wire format of protocol buffers, as far as Kubernetes uses it: varints, 64-bit and length-delimited fields; 32-bit fields and
//! groups can only be skipped. Source: the protobuf encoding guide. Lengths are checked before anything is taken, so nothing panics.

use crate::MAX_DEPTH;

/// A value as it lies on the wire, before its field says what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// What no field of the table has: 32 bits or a group.
    Other,
}

/// Reads the fields of one message.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's tag and value; `None` at the end. The error says what is wrong with the bytes.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Raw<'a>)>, &'static str> {
        if self.is_empty() {
            return Ok(None);
        }
        let (tag, wire) = self.key()?;
        Ok(Some((tag, self.value(tag, wire, 0)?)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.rest.split_first().ok_or("it ends inside a number")?;
            self.rest = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is longer than 64 bits")
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, &'static str> {
        let bytes = self.take(8)?.try_into().map_err(|_| "it ends inside a number")?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn key(&mut self) -> Result<(u32, u8), &'static str> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| "a tag is too large")?;
        if tag == 0 {
            return Err("a tag is zero");
        }
        Ok((tag, (key & 7) as u8))
    }

    fn value(&mut self, tag: u32, wire: u8, depth: usize) -> Result<Raw<'a>, &'static str> {
        Ok(match wire {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| "a length is too large")?;
                Raw::Bytes(self.take(length)?)
            }
            3 if depth >= MAX_DEPTH => return Err("groups nest too deep"),
            3 => loop {
                let (inner, wire) = self.key()?;
                if wire == 4 {
                    if inner != tag {
                        return Err("a group ends that did not begin");
                    }
                    break Raw::Other;
                }
                self.value(inner, wire, depth + 1)?;
            },
            4 => return Err("a group ends that did not begin"),
            5 => {
                self.take(4)?;
                Raw::Other
            }
            _ => return Err("a wire type is unknown"),
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it ends inside a field")?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Appends `value` as a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_number(out: &mut Vec<u8>, tag: u32, value: u64) {
    put_varint(out, u64::from(tag) << 3);
    put_varint(out, value);
}

pub(crate) fn put_double(out: &mut Vec<u8>, tag: u32, value: f64) {
    put_varint(out, (u64::from(tag) << 3) | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    put_varint(out, (u64::from(tag) << 3) | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, 20, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.field(), Ok(Some((20, Raw::Varint(value)))));
            assert_eq!(reader.field(), Ok(None));
        }
    }

    #[test]
    fn groups_and_fixed32_are_skipped_whole() {
        // group 3 { 1: 1, group 4 {} }, then 5: fixed32, then 1: 7
        let bytes = [0x1b, 0x08, 0x01, 0x23, 0x24, 0x1c, 0x2d, 1, 2, 3, 4, 0x08, 7];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.field(), Ok(Some((3, Raw::Other))));
        assert_eq!(reader.field(), Ok(Some((5, Raw::Other))));
        assert_eq!(reader.field(), Ok(Some((1, Raw::Varint(7)))));
    }

    #[test]
    fn what_ends_early_is_an_error() {
        for bytes in [
            &[0x0a, 5, 1][..],
            &[0x08, 0x80],
            &[0x09, 1],
            &[0x0d],
            &[0x0b],
            &[0x0c],
            &[0x00],
            &[0x0f],
            &[0xff; 11],
            &[0x0b; 500],
        ] {
            assert!(Reader::new(bytes).field().is_err(), "{bytes:?}");
        }
    }
}
