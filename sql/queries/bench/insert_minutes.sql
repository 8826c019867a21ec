-- Rollups of minutes that no reading is of: $1 series, $2 the level of each, $3 minutes, up to the one that begins at $4
INSERT INTO readings_1m (series_id, minute, last_ts, count, mean, m2, lowest, highest, last_value)
SELECT s.series_id, minute, minute + interval '59 seconds', 60, s.level + n % 5 * 0.1, 0.8, s.level, s.level + 0.4, s.level
FROM unnest($1::int[], $2::float8[]) AS s (series_id, level), generate_series(1, $3::int) AS n,
  LATERAL (SELECT $4::timestamptz - make_interval(mins => n) AS minute) AS m
ORDER BY s.series_id, minute
