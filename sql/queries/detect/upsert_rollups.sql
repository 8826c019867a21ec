-- arrays: $1 series ids, $2 minutes, $3 counts, $4 means, $5 M2, $6 lowest, $7 highest, $8 last values, $9 last times
INSERT INTO readings_1m AS r (series_id, minute, count, mean, m2, lowest, highest, last_value, last_ts)
SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[], $7::float8[],
                     $8::float8[], $9::timestamptz[])
ON CONFLICT (series_id, minute) DO UPDATE SET
  count = r.count + excluded.count,
  -- PostgreSQL refuses results too small to be written: distances below 1e-140 count as none.
  mean = CASE WHEN abs(excluded.mean - r.mean) < 1e-140 THEN r.mean
              ELSE r.mean + (excluded.mean - r.mean) * (excluded.count::float8 / (r.count + excluded.count)) END,
  m2 = CASE WHEN abs(excluded.mean - r.mean) < 1e-140 THEN r.m2 + excluded.m2
            ELSE r.m2 + excluded.m2
                 + (excluded.mean - r.mean) ^ 2 * (r.count::float8 * excluded.count / (r.count + excluded.count)) END,
  lowest = least(r.lowest, excluded.lowest),
  highest = greatest(r.highest, excluded.highest),
  last_value = CASE WHEN excluded.last_ts >= r.last_ts THEN excluded.last_value ELSE r.last_value END,
  last_ts = greatest(r.last_ts, excluded.last_ts)
