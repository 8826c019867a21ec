-- $1 tenant ids, $2 devices, $3 metrics; returns the place in the arrays, from 1, and the series
SELECT k.place, s.series_id
FROM unnest($1::int[], $2::text[], $3::text[]) WITH ORDINALITY AS k (tenant_id, device, metric, place)
JOIN devices d ON d.tenant_id = k.tenant_id AND d.external_id = k.device
JOIN series s ON s.device_id = d.device_id AND s.metric = k.metric
