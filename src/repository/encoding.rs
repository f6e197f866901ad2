//! Content codings for clients that ask (RFC 9110 §12.5.3).

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A coding that Larder can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    Zstd,
    Brotli,
    Gzip,
}

/// Bodies smaller than this gain nothing.
pub const ENCODED_BYTES_MIN: usize = 1024;

impl Encoding {
    /// The coding's registered name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// Encodes a body; levels are those at which a document is done in about the time its fetch
    /// took.
    ///
    /// # Errors
    /// Where the encoder fails.
    pub fn encode(self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder =
                    GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(6));
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(body, 3),
            Self::Brotli => {
                let mut encoded = Vec::with_capacity(body.len() / 4);
                let params = brotli::enc::BrotliEncoderParams {
                    quality: 5,
                    ..Default::default()
                };
                brotli::BrotliCompress(&mut &body[..], &mut encoded, &params)?;
                Ok(encoded)
            }
        }
    }
}

/// The encodings that the client accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    taken: Vec<Encoding>,
    /// The client is on this machine, where bytes cost nothing: a document is coded when it is asked
    /// for again, and its first client does not wait for that.
    pub is_near: bool,
}

impl Encodings {
    /// Reads `Accept-Encoding`.
    #[must_use]
    pub fn parse(header: &str, is_near: bool) -> Self {
        let mut taken: Vec<(f32, Encoding)> = Vec::new();
        for entry in header.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let encoding = match parts.next().unwrap_or_default() {
                "gzip" | "x-gzip" => Encoding::Gzip,
                "br" => Encoding::Brotli,
                "zstd" => Encoding::Zstd,
                _ => continue,
            };
            let quality = parts
                .find_map(|part| part.strip_prefix("q=")?.parse().ok())
                .unwrap_or(1.0);
            if quality > 0.0 {
                taken.push((quality, encoding));
            }
        }
        // Among encodings of equal weight, the one with the best ratio of size to time comes first.
        taken.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1 as u8).cmp(&(b.1 as u8))));
        Self {
            taken: taken.into_iter().map(|(_, encoding)| encoding).collect(),
            is_near,
        }
    }

    #[must_use]
    pub fn best(&self) -> Option<Encoding> {
        self.taken.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_client_chooses_and_ties_are_ours() {
        for (header, best) in [
            ("gzip, deflate", Some(Encoding::Gzip)),
            ("gzip, deflate, br", Some(Encoding::Brotli)),
            ("gzip, br, zstd", Some(Encoding::Zstd)),
            ("gzip;q=1.0, br;q=0.5", Some(Encoding::Gzip)),
            ("zstd;q=0, gzip", Some(Encoding::Gzip)),
            ("identity", None),
            ("", None),
        ] {
            assert_eq!(Encodings::parse(header, false).best(), best, "{header}");
        }
    }

    #[test]
    fn every_coding_can_be_undone() {
        let body = b"{\"name\":\"left-pad\"}".repeat(500);
        let mut undone = Vec::new();
        flate2::read::GzDecoder::new(&Encoding::Gzip.encode(&body).unwrap()[..])
            .read_to_end(&mut undone)
            .unwrap();
        assert_eq!(undone, body);
        let zstd = Encoding::Zstd.encode(&body).unwrap();
        assert_eq!(zstd::bulk::decompress(&zstd, body.len()).unwrap(), body);
        let mut undone = Vec::new();
        brotli::BrotliDecompress(
            &mut &Encoding::Brotli.encode(&body).unwrap()[..],
            &mut undone,
        )
        .unwrap();
        assert_eq!(undone, body);
    }
}
