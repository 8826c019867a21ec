-- $1 tenant ids, $2 devices, sorted
INSERT INTO devices (tenant_id, external_id)
SELECT DISTINCT k.tenant_id, k.device
FROM unnest($1::int[], $2::text[]) AS k (tenant_id, device)
WHERE NOT EXISTS (SELECT FROM devices d WHERE d.tenant_id = k.tenant_id AND d.external_id = k.device)
ORDER BY 1, 2
ON CONFLICT DO NOTHING
