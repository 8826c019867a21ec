-- $1 series ids, $2 times: what is stored there
SELECT r.series_id, r.ts, r.value
FROM unnest($1::int[], $2::timestamptz[]) AS k (series_id, ts) JOIN readings r USING (series_id, ts)
