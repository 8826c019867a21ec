-- $1 tenant ids, $2 devices, $3 metrics, $4 units, sorted
INSERT INTO series (tenant_id, device_id, metric, unit)
SELECT d.tenant_id, d.device_id, k.metric, k.unit
FROM unnest($1::int[], $2::text[], $3::text[], $4::text[]) AS k (tenant_id, device, metric, unit)
JOIN devices d ON d.tenant_id = k.tenant_id AND d.external_id = k.device
WHERE NOT EXISTS (SELECT FROM series s WHERE s.device_id = d.device_id AND s.metric = k.metric)
ORDER BY d.device_id, k.metric
ON CONFLICT DO NOTHING
