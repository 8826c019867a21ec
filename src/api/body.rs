//! The body of a request that may be packed: read and unpacked within limits, whatever it claims to be.
//!
//! Pure, but for time: whoever calls [`unpack`] does it where it may take a while.

use std::io::Read;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::problem::Problem;

/// Larger windows need not be understood: RFC 9659, section 3.
const ZSTD_WINDOW: u64 = 8 * 1024 * 1024;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// What the headers say.
    ///
    /// # Errors
    /// 415 for any other.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let named =
            headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or_default().trim());
        match named.map(str::to_ascii_lowercase).as_deref() {
            None | Some("identity" | "") => Ok(Self::Identity),
            Some("gzip" | "x-gzip") => Ok(Self::Gzip),
            Some("zstd") => Ok(Self::Zstd),
            Some(_) => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body's Content-Encoding must be gzip, zstd or identity",
            )
            .header(header::ACCEPT_ENCODING, header::HeaderValue::from_static("gzip, zstd"))),
        }
    }
}

/// Unpacks a body to at most `limit` bytes.
///
/// # Errors
/// 400 if it is not what it claims to be, 413 if it is larger.
pub fn unpack(packed: Bytes, encoding: Encoding, limit: usize) -> Result<Bytes, Problem> {
    let mut plain = Vec::new();
    let unpacked = match encoding {
        Encoding::Identity if packed.len() > limit => return Err(too_large("unpacked", limit)),
        Encoding::Identity => return Ok(packed),
        Encoding::Gzip => read(MultiGzDecoder::new(&*packed), &mut plain, limit),
        Encoding::Zstd => unpack_zstd(&packed, &mut plain, limit),
    };
    match unpacked {
        Ok(()) if plain.len() <= limit => Ok(plain.into()),
        Ok(()) => Err(too_large("unpacked", limit)),
        Err(problem) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body can't be unpacked, it may have been cut short: {problem}"),
        )),
    }
}

/// A body of more than `limit` bytes.
pub fn too_large(what: &str, limit: usize) -> Problem {
    let detail = format!("the body must not be larger than {limit} bytes {what}: send it in parts");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// One byte more than the limit shows that there is more.
fn read(source: impl Read, plain: &mut Vec<u8>, limit: usize) -> Result<(), String> {
    let room = (limit + 1).saturating_sub(plain.len()) as u64;
    source.take(room).read_to_end(plain).map(drop).map_err(|error| error.to_string())
}

/// Frames may follow each other.
fn unpack_zstd(packed: &[u8], plain: &mut Vec<u8>, limit: usize) -> Result<(), String> {
    let mut rest = packed;
    while !rest.is_empty() && plain.len() <= limit {
        let frame = StreamingDecoder::new_with_max_window_size(&mut rest, ZSTD_WINDOW);
        let mut frame = frame.map_err(|error| error.to_string())?;
        read(&mut frame, plain, limit)?;
        // The decoder leaves comparing them to its caller.
        let decoder = frame.into_frame_decoder();
        let expected = decoder.get_checksum_from_data().filter(|_| decoder.is_finished());
        if expected.is_some() && expected != decoder.get_calculated_checksum() {
            return Err("its checksum is wrong".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        compress_to_vec(plain, CompressionLevel::Fastest)
    }

    fn status(packed: Vec<u8>, encoding: Encoding, limit: usize) -> Result<Bytes, u16> {
        unpack(packed.into(), encoding, limit).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn what_was_packed_comes_out_several_pieces_too() {
        let plain = b"[{\"device\":\"a\"}]".repeat(50);
        for (encoding, pack) in [(Encoding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Encoding::Zstd, zstd)] {
            assert_eq!(status(pack(&plain), encoding, plain.len()).unwrap(), plain);
            let two = [pack(&plain[..100]), pack(&plain[100..])].concat();
            assert_eq!(status(two, encoding, plain.len()).unwrap(), plain);
        }
    }

    #[test]
    fn what_was_changed_on_the_way_is_refused() {
        let mut packed = zstd(&b"hello, hello, hello, is anybody there? ".repeat(9));
        let last = packed.len() - 1;
        packed[last] ^= 1;
        assert_eq!(status(packed, Encoding::Zstd, 1_000), Err(400));
    }

    #[test]
    fn a_bomb_is_cut_off_at_the_limit() {
        let bomb = vec![b' '; 20_000_000];
        assert_eq!(status(gzip(&bomb), Encoding::Gzip, 1_000), Err(413));
        assert_eq!(status(zstd(&bomb), Encoding::Zstd, 1_000), Err(413));
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_refused() {
        for (encoding, packed) in
            [(Encoding::Gzip, gzip(b"hello, hello")), (Encoding::Zstd, zstd(b"hello, hello"))]
        {
            for end in 1..packed.len() - 1 {
                assert_eq!(status(packed[..end].to_vec(), encoding, 100), Err(400), "{encoding:?} {end}");
            }
            assert_eq!(status(b"[]".to_vec(), encoding, 100), Err(400));
        }
    }
}
