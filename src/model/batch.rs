//! The packed form of a committed batch, as it stands in `flushes.batch`: what ingestion hands to detection.
//!
//! Layout, version 1, after the version byte: for each series a varint of the distance to the previous series id, a
//! varint of its number of readings, then for each reading a zigzag varint of the distance in microseconds to the
//! previous time (of the same series; the first to zero) and the value as 8 little-endian bytes. Some 13 bytes a
//! reading. Varints are LEB128, zigzag as in Protocol Buffers.

use super::ids::SeriesId;
use super::reading::{Reading, UnixMicros};

const VERSION: u8 = 1;

/// Why bytes are not a packed batch.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnpackError {
    /// Written by a program that knows another layout.
    #[error("packed batch has layout version {0}, this program reads version {VERSION}")]
    Version(u8),
    /// The bytes end in the middle, or a number does not fit.
    #[error("packed batch is damaged at byte {0}")]
    Damaged(usize),
}

/// Packs readings that are sorted by `(series, ts)`.
pub fn pack(readings: &[Reading]) -> Vec<u8> {
    debug_assert!(readings.is_sorted_by_key(|r| (r.series, r.ts)));
    let mut out = Vec::with_capacity(1 + readings.len() * 14);
    out.push(VERSION);
    let mut previous_series = 0;
    for group in readings.chunk_by(|a, b| a.series == b.series) {
        let series = i64::from(group[0].series.0);
        put_varint(&mut out, zigzag(series.wrapping_sub(previous_series)));
        put_varint(&mut out, group.len() as u64);
        previous_series = series;
        let mut previous_ts = 0;
        for reading in group {
            put_varint(&mut out, zigzag(reading.ts.0.wrapping_sub(previous_ts)));
            out.extend_from_slice(&reading.value.to_le_bytes());
            previous_ts = reading.ts.0;
        }
    }
    out
}

/// The readings of a packed batch, in the order in which they were packed.
///
/// # Errors
/// [`UnpackError`] for bytes that [`pack`] did not write.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Reading>, UnpackError> {
    let mut input = Input { bytes, at: 0 };
    match input.byte()? {
        VERSION => {}
        other => return Err(UnpackError::Version(other)),
    }
    let mut readings = Vec::with_capacity(bytes.len() / 10);
    let mut series = 0_i64;
    while input.at < bytes.len() {
        series = series.wrapping_add(unzigzag(input.varint()?));
        let id = i32::try_from(series).map_err(|_| UnpackError::Damaged(input.at))?;
        let mut ts = 0_i64;
        for _ in 0..input.varint()? {
            ts = ts.wrapping_add(unzigzag(input.varint()?));
            let value = f64::from_le_bytes(input.eight()?);
            readings.push(Reading { series: SeriesId(id), ts: UnixMicros(ts), value });
        }
    }
    Ok(readings)
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, UnpackError> {
        let byte = *self.bytes.get(self.at).ok_or(UnpackError::Damaged(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, UnpackError> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(UnpackError::Damaged(self.at))
    }

    fn eight(&mut self) -> Result<[u8; 8], UnpackError> {
        let chunk = self.bytes[self.at..].first_chunk::<8>().ok_or(UnpackError::Damaged(self.at))?;
        self.at += 8;
        Ok(*chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(series: i32, ts: i64, value: f64) -> Reading {
        Reading { series: SeriesId(series), ts: UnixMicros(ts), value }
    }

    #[test]
    fn what_was_packed_comes_back() {
        let readings = [
            reading(1, -5, 0.1),
            reading(1, 1_790_000_000_000_000, -1e300),
            reading(2, i64::MIN, 0.0),
            reading(2, i64::MAX, f64::MAX),
            reading(i32::MAX, 0, f64::MIN_POSITIVE),
        ];
        assert_eq!(unpack(&pack(&readings)).unwrap(), readings);
        assert_eq!(unpack(&pack(&[])).unwrap(), []);
    }

    #[test]
    fn regular_readings_take_some_thirteen_bytes() {
        let readings: Vec<_> = (0..5000)
            .map(|i| reading(i / 5, 1_790_000_000_000_000 + i64::from(i % 5) * 1_000_000, 20.5))
            .collect();
        let bytes_each = pack(&readings).len() as f64 / 5000.0;
        assert!(bytes_each < 14.0, "{bytes_each} bytes a reading");
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = pack(&[reading(1, 5, 1.0), reading(7, 6, 2.0)]);
        for end in 1..whole.len() {
            let cut = unpack(&whole[..end]);
            assert!(cut.is_err() || cut.unwrap().len() < 2, "cut at {end}");
        }
        assert_eq!(unpack(&[9]), Err(UnpackError::Version(9)));
        assert_eq!(unpack(&[]), Err(UnpackError::Damaged(0)));
        assert!(unpack(&[&[VERSION][..], &[0xff; 40]].concat()).is_err());
    }
}
