-- $1 series ids, $2 times: the last 20 readings of each up to its time, the newest first; those of a week, so that only some
-- partitions are looked at
SELECT wanted.place, p.ts, p.value
FROM unnest($1::int[], $2::timestamptz[]) WITH ORDINALITY AS wanted (series_id, until, place)
CROSS JOIN LATERAL (
  SELECT r.ts, r.value FROM readings r
  WHERE r.series_id = wanted.series_id AND r.ts <= wanted.until AND r.ts > wanted.until - interval '7 days'
  ORDER BY r.ts DESC LIMIT 20
) AS p
ORDER BY wanted.place, p.ts DESC
