-- $1 series ids, $2 minutes that are left out. Counts, lowest, highest must be equal; means to 1e-9 of their size.
-- Compared are the days of which there is a partition of both.
WITH compared AS MATERIALIZED (
  SELECT r.ends FROM partition_ends('readings') AS r JOIN partition_ends('readings_1m') AS m USING (ends)
)
SELECT count(*)
FROM (
  SELECT series_id, date_trunc('minute', ts, 'UTC') AS minute, count(*) AS count, avg(value) AS mean,
         min(value) AS lowest, max(value) AS highest
  FROM readings GROUP BY 1, 2
) AS raw
FULL JOIN readings_1m r USING (series_id, minute)
WHERE (raw.count IS DISTINCT FROM r.count
       OR raw.lowest IS DISTINCT FROM r.lowest
       OR raw.highest IS DISTINCT FROM r.highest
       OR abs(raw.mean - r.mean) > 1e-9 * greatest(abs(raw.mean), abs(raw.lowest), abs(raw.highest), 1e-300))
  AND (series_id, minute) NOT IN (SELECT s, m FROM unnest($1::int[], $2::timestamptz[]) AS left_out (s, m))
  AND EXISTS (SELECT FROM compared WHERE minute >= ends - interval '24 hours' AND minute < ends)
