-- $1 series ids, $2 minutes before the latest that are wanted of each
SELECT r.series_id, r.minute, r.count, r.mean
FROM unnest($1::int[], $2::int[]) AS wanted (series_id, span)
CROSS JOIN LATERAL (SELECT max(m.minute) AS minute FROM readings_1m m WHERE m.series_id = wanted.series_id) AS latest
JOIN readings_1m r ON r.series_id = wanted.series_id
  AND r.minute >= latest.minute - make_interval(mins => wanted.span) AND r.minute <= latest.minute
ORDER BY r.series_id, r.minute
