//! A file line by line, without trust in how long the lines are.

use std::io::{self, BufRead, Read};

/// Lines of bytes, none held that is longer than a limit.
pub(crate) struct Lines<R> {
    reader: R,
    limit: u64,
    number: u64,
    offset: u64,
    ended: bool,
    buffer: Vec<u8>,
}

/// A line without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// What it holds.
    Bytes(&'a [u8]),
    /// It holds more than the limit.
    TooLong {
        /// How much.
        bytes: u64,
    },
}

impl<R: BufRead> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub(crate) fn new(reader: R, limit: u64) -> Self {
        Lines {
            reader,
            limit,
            number: 0,
            offset: 0,
            ended: true,
            buffer: Vec::new(),
        }
    }

    /// The line that was read last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes read so far, newlines included.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the line that was read last had a newline at its end.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// The next line, if there is one.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        // One more than the limit, for the newline.
        let mut limited = (&mut self.reader).take(self.limit + 1);
        let read = limited.read_until(b'\n', &mut self.buffer)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.offset += read;
        self.ended = self.buffer.ends_with(b"\n");
        if self.ended {
            self.buffer.pop();
        } else if read > self.limit {
            let bytes = read + self.skip_line()?;
            // A gigantic buffer is not kept for the short lines that follow.
            self.buffer = Vec::new();
            return Ok(Some(Line::TooLong { bytes }));
        }
        let line = self.buffer.as_slice();
        // Some editors begin a UTF-8 file with a mark.
        let mark = "\u{feff}".as_bytes();
        Ok(Some(Line::Bytes(match line.strip_prefix(mark) {
            Some(after) if self.number == 1 => after,
            _ => line,
        })))
    }

    /// Reads to the end of the line without keeping it, and says how many bytes there were.
    fn skip_line(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = available.iter().position(|byte| *byte == b'\n');
            let (used, bytes) = match end {
                Some(at) => (at + 1, at),
                None => (available.len(), available.len()),
            };
            self.reader.consume(used);
            self.offset += used as u64;
            self.ended = end.is_some();
            skipped += bytes as u64;
            if self.ended || used == 0 {
                return Ok(skipped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// Number, offset, whether it ended, and the line or its length.
    type Read = (u64, u64, bool, Result<Vec<u8>, u64>);

    fn lines(bytes: &[u8], limit: u64) -> Vec<Read> {
        // A small buffer, so that lines span several of its fillings.
        let mut lines = Lines::new(BufReader::with_capacity(3, bytes), limit);
        let mut all = Vec::new();
        loop {
            let line = match lines.next_line().unwrap() {
                Some(Line::Bytes(bytes)) => Ok(bytes.to_vec()),
                Some(Line::TooLong { bytes }) => Err(bytes),
                None => return all,
            };
            all.push((lines.number(), lines.offset(), lines.ended(), line));
        }
    }

    // Breaks with: a last line without newline that is lost, an offset that cuts a log in the
    // middle of a line.
    #[test]
    fn lines_and_their_places() {
        let all = lines(b"ab\n\nc", 9);
        let expected = [
            (1, 3, true, Ok(b"ab".to_vec())),
            (2, 4, true, Ok(Vec::new())),
            (3, 5, false, Ok(b"c".to_vec())),
        ];
        assert_eq!(all, expected);
        assert!(lines(b"", 9).is_empty());
    }

    // Breaks with: a line at the limit refused, or what follows a long line taken for its rest.
    #[test]
    fn attack_a_line_over_the_limit() {
        let all = lines(b"1234\n12345\n1234567890\nx\n12345", 4);
        let read: Vec<_> = all.into_iter().map(|(.., line)| line).collect();
        let short = |bytes: &[u8]| Ok(bytes.to_vec());
        let expected = [short(b"1234"), Err(5), Err(10), short(b"x"), Err(5)];
        assert_eq!(read, expected);
    }

    // Breaks with: a mark of the encoding that makes the first line no JSON.
    #[test]
    fn a_byte_order_mark_is_no_content() {
        let all = lines("\u{feff}a\n\u{feff}b".as_bytes(), 9);
        let read: Vec<_> = all.into_iter().map(|(.., line)| line.unwrap()).collect();
        assert_eq!(read, [b"a".to_vec(), "\u{feff}b".as_bytes().to_vec()]);
    }
}
