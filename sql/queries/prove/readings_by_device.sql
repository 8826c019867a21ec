SELECT d.external_id, count(*)
FROM readings r JOIN series s USING (series_id) JOIN devices d USING (device_id)
GROUP BY d.external_id
