//! PostgreSQL's binary COPY format for readings. Pure.
//!
//! Source: the PostgreSQL manual, COPY, "Binary Format".

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::reading::Reading;

/// 2000-01-01, where PostgreSQL's timestamps begin, in microseconds since 1970-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// `COPY readings (series_id, ts, value) FROM STDIN (FORMAT binary)`, the whole stream.
pub fn encode(readings: &[Reading]) -> Bytes {
    const ROW: usize = 2 + (4 + 4) + (4 + 8) + (4 + 8);
    let mut out = BytesMut::with_capacity(19 + readings.len() * ROW + 2);
    out.put_slice(b"PGCOPY\n\xff\r\n\0");
    out.put_i32(0);
    out.put_i32(0);
    for reading in readings {
        out.put_i16(3);
        out.put_i32(4);
        out.put_i32(reading.series.0);
        out.put_i32(8);
        out.put_i64(reading.ts.0.saturating_sub(POSTGRES_EPOCH));
        out.put_i32(8);
        out.put_f64(reading.value);
    }
    out.put_i16(-1);
    out.freeze()
}
