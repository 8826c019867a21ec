-- $1 series ids, $2 times, $3 values, sorted; returns what was really inserted
INSERT INTO readings (series_id, ts, value)
SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::float8[])
ON CONFLICT DO NOTHING
RETURNING series_id, ts, value
