//! Reads input from outside into memory, up to a bound. Longer input is an error, never cut.

use std::io::{Read, Write};

use crate::problem::{Decider, Kind, Problem};

/// Bytes that come in piece by piece, of which there may be so many.
#[derive(Debug)]
pub struct Bounded {
    bytes: Vec<u8>,
    bytes_max: u64,
    is_too_long: bool,
}

/// There were more bytes than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has more than {bytes_max} bytes")]
pub struct TooLong {
    pub bytes_max: u64,
}

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Bounded {
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes: Vec::new(),
            bytes_max,
            is_too_long: false,
        }
    }

    /// Takes a piece; of one that is too long, as much as fits.
    ///
    /// # Errors
    /// Where it does not fit.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        let room = self.bytes_max.saturating_sub(self.bytes.len() as u64);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        match piece.get(..room) {
            Some(fits) if fits.len() < piece.len() => {
                self.bytes.extend_from_slice(fits);
                self.is_too_long = true;
                Err(self.too_long())
            }
            _ => {
                self.bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// The bytes, all of which fit.
    ///
    /// # Errors
    /// Where there were more.
    pub fn finish(self) -> Result<Vec<u8>, TooLong> {
        if self.is_too_long {
            return Err(self.too_long());
        }
        Ok(self.bytes)
    }

    /// The beginning of what came, for those who look no further.
    #[must_use]
    pub fn beginning(self) -> Vec<u8> {
        self.bytes
    }

    fn too_long(&self) -> TooLong {
        TooLong {
            bytes_max: self.bytes_max,
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl TooLong {
    /// The problem for the client; `what` names the input.
    #[must_use]
    pub fn problem(self, what: &str) -> Problem {
        let bytes_max = self.bytes_max;
        Problem::new(
            Kind::TooLarge,
            Decider::Larder,
            format!("{what} has more than {bytes_max} bytes"),
        )
    }
}

/// Reads to the end.
///
/// # Errors
/// Where there are more than `bytes_max` bytes, or reading fails.
pub fn read(reader: impl Read, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    reader
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(TooLong { bytes_max }.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_what_does_not_is_told() {
        assert_eq!(read(&b"four"[..], 4).unwrap(), b"four");
        let error = read(&b"five!"[..], 4).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 4 bytes");
        let mut bounded = Bounded::new(4);
        bounded.push(b"fo").unwrap();
        bounded.push(b"ur").unwrap();
        bounded.push(b"").unwrap();
        assert_eq!(bounded.finish(), Ok(b"four".to_vec()));
    }

    #[test]
    fn of_what_is_too_long_the_beginning_can_be_had_and_the_whole_cannot() {
        let long = || {
            let mut bounded = Bounded::new(4);
            bounded.push(b"fo").unwrap();
            bounded.push(b"ur and more").unwrap_err();
            bounded
        };
        assert_eq!(long().beginning(), b"four");
        assert_eq!(long().finish(), Err(TooLong { bytes_max: 4 }));
    }
}
