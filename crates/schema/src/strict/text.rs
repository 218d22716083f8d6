//! Strings: copied in runs between escapes.

use super::{Answer, Decoder};

impl Decoder<'_> {
    /// The string whose opening quote is at hand.
    pub(super) fn string(&mut self) -> Answer<String> {
        self.at += 1;
        let run = self.run();
        if self.peek() == Some(b'"') {
            // By far the most strings have no escape.
            let text = lossy(&self.bytes[run..self.at]);
            self.at += 1;
            return Ok(text);
        }
        self.string_with_escapes(run)
    }

    /// Goes on to the next quote, backslash or control character; returns where it started.
    fn run(&mut self) -> usize {
        let start = self.at;
        let rest = &self.bytes[start..];
        let length = rest
            .iter()
            .position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))
            .unwrap_or(rest.len());
        self.at += length;
        start
    }

    fn string_with_escapes(&mut self, mut run: usize) -> Answer<String> {
        let mut text = String::new();
        loop {
            text.push_str(&lossy(&self.bytes[run..self.at]));
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let c = self.escape()?;
                    text.push(c);
                }
                _ => return self.unexpected("in string literal"),
            }
            run = self.run();
        }
    }

    fn escape(&mut self) -> Answer<char> {
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return self.unexpected("in string escape code"),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Answer<char> {
        let high = self.hex4()?;
        if !(0xd800..0xdc00).contains(&high) || !self.bytes[self.at..].starts_with(b"\\u") {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let before = self.at;
        self.at += 2;
        let low = self.hex4()?;
        if (0xdc00..0xe000).contains(&low) {
            let c = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        // A half without its other half; the second escape stands for itself.
        self.at = before;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Answer<u32> {
        let mut n = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(16)) else {
                return self.unexpected("in \\u hexadecimal character escape");
            };
            n = n * 16 + digit;
            self.at += 1;
        }
        Ok(n)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
