SELECT r.series_id, d.external_id, s.metric, r.ts, r.value
FROM readings r JOIN series s USING (series_id) JOIN devices d USING (device_id)
