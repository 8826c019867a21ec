-- $1 series ids that brought something
UPDATE devices d SET last_seen = now()
FROM (SELECT DISTINCT s.device_id FROM unnest($1::int[]) AS seen (series_id) JOIN series s USING (series_id)
      ORDER BY s.device_id) AS touched
WHERE d.device_id = touched.device_id AND d.last_seen < now() - interval '30 seconds'
