-- $1 series ids, $2 times, $3 values, sorted; $4 how many, $5 the same packed. A repeat is an error, and nothing is stored.
WITH stored AS (
  INSERT INTO readings (series_id, ts, value) SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::float8[])
)
INSERT INTO flushes (readings, batch) VALUES ($4, $5)
