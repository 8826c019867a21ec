-- $1 tenant ids, $2 devices, $3 metrics; returns the place in the arrays, from 1, whether there is such a device, and the
-- series or NULL
SELECT k.place, d.device_id IS NOT NULL, s.series_id
FROM unnest($1::int[], $2::text[], $3::text[]) WITH ORDINALITY AS k (tenant_id, device, metric, place)
LEFT JOIN devices d ON d.tenant_id = k.tenant_id AND d.external_id = k.device
LEFT JOIN series s ON s.device_id = d.device_id AND s.metric = k.metric
ORDER BY k.place
