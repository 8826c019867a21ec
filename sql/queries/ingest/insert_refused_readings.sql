-- $1 series ids, $2 times, $3 values, $4 reasons, $5 details, $6 prefix of the subject: readings that were whole, but not to
-- be stored
INSERT INTO rejected_readings (tenant_id, subject, reason, detail, payload)
SELECT s.tenant_id, $6::text || '.' || t.name, r.reason, r.detail,
       convert_to(jsonb_build_object('device', d.external_id, 'metric', s.metric, 'ts', r.ts, 'value', r.value)::text, 'UTF8')
FROM unnest($1::int[], $2::timestamptz[], $3::float8[], $4::text[], $5::text[]) AS r (series_id, ts, value, reason, detail)
JOIN series s USING (series_id) JOIN devices d USING (device_id) JOIN tenants t ON t.tenant_id = s.tenant_id
