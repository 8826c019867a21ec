-- $1 series ids, $2 minutes before the latest that are wanted of each, and the last minute before those
SELECT r.series_id, r.minute, r.count, r.mean, r.lowest, r.highest
FROM unnest($1::int[], $2::int[]) AS wanted (series_id, span)
CROSS JOIN LATERAL (SELECT max(m.minute) AS minute FROM readings_1m m WHERE m.series_id = wanted.series_id) AS latest
CROSS JOIN LATERAL (
  SELECT coalesce((SELECT max(m.minute) FROM readings_1m m
                   WHERE m.series_id = wanted.series_id AND m.minute <= latest.minute - make_interval(mins => wanted.span)),
                  latest.minute - make_interval(mins => wanted.span)) AS minute) AS first
JOIN readings_1m r ON r.series_id = wanted.series_id AND r.minute >= first.minute AND r.minute <= latest.minute
ORDER BY r.series_id, r.minute
