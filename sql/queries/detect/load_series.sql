-- $1 series ids; `last_ts` is the latest time that was judged
SELECT s.series_id, s.tenant_id, d.external_id, d.tags, d.last_seen, s.metric, s.unit, latest.last_ts, latest.last_value
FROM unnest($1::int[]) AS wanted (series_id)
JOIN series s ON s.series_id = wanted.series_id
JOIN devices d ON d.device_id = s.device_id
LEFT JOIN LATERAL (
  SELECT r.last_ts, r.last_value FROM readings_1m r WHERE r.series_id = wanted.series_id ORDER BY r.minute DESC LIMIT 1
) AS latest ON true
