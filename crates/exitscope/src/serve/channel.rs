//! Messages between the two processes: a byte asks for a reading, and a text for each format answers.

use exitscope_view::metrics::Exposition;
use std::io::{self, Read, Write};

/// The longest text that is taken (bytes). A hundred thousand series have 12 MB.
const LONGEST: u32 = 1 << 30;

/// Bit of a format in the byte that asks.
pub fn bit(format: Exposition) -> u8 {
    match format {
        Exposition::Prometheus => 1,
        Exposition::OpenMetrics => 2,
    }
}

/// Byte that says that the HTTP process listens.
pub const READY: u8 = 0;

/// Byte with which the collector says that it ends as it was asked to.
pub const GOODBYE: u8 = 0xff;

/// Formats of a byte that asks; `None` if it is no such byte.
pub fn formats(byte: u8) -> Option<Vec<Exposition>> {
    let all: u8 = Exposition::ALL.into_iter().map(bit).sum();
    let asked = || Exposition::ALL.into_iter().filter(|format| byte & bit(*format) != 0).collect();
    (byte != 0 && byte & !all == 0).then(asked)
}

/// Writes a text.
///
/// # Errors
/// Those of `to`, and if the text is longer than is taken.
pub fn send(to: &mut impl Write, text: &[u8]) -> io::Result<()> {
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::other("more than 1 GiB of metrics: lower --max-series"))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(text)
}

/// Reads a text.
///
/// # Errors
/// Those of `from`, and if the text is longer than is taken.
pub fn receive(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::other(format!("{length} bytes of metrics announced, more than {LONGEST}")));
    }
    let mut text = Vec::new();
    from.by_ref().take(length.into()).read_to_end(&mut text)?;
    if text.len() as u64 == u64::from(length) { Ok(text) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_as_they_went_and_others_are_refused() {
        let mut bytes = Vec::new();
        for text in ["", "a 1\n"] {
            send(&mut bytes, text.as_bytes()).unwrap();
        }
        let mut from = bytes.as_slice();
        assert_eq!((receive(&mut from).unwrap(), receive(&mut from).unwrap()), (vec![], b"a 1\n".to_vec()));
        assert!(receive(&mut from).is_err());
        assert!(receive(&mut [9, 0, 0, 0, b'a'].as_slice()).is_err(), "cut off");
        assert!(receive(&mut [0xff; 9].as_slice()).is_err(), "too long");
    }

    #[test]
    fn bytes_that_ask() {
        assert_eq!(formats(1), Some(vec![Exposition::Prometheus]));
        assert_eq!(formats(3), Some(Exposition::ALL.to_vec()));
        assert_eq!((formats(READY), formats(4), formats(0xff)), (None, None, None));
    }
}
