-- arrays: $1 ids, $2 tenant ids, $3 rules, $4 rule versions, $5 series ids, $6 breached at, $7 fired at, $8 decided at,
-- $9 values, $10 evidence, $11 classes, $12 summaries, $13 device tags, $14 points, $15 late, $16 severities, $17 historical.
-- One breach is one alert, however often it is judged: returns the new ones.
INSERT INTO alerts (alert_id, tenant_id, rule_id, rule_version, series_id, breached_at, fired_at, decided_at, value, evidence,
                    class, summary, device_tags, points, late, severity, historical)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::int[], $5::int[], $6::timestamptz[], $7::timestamptz[],
                     $8::timestamptz[], $9::float8[], $10::jsonb[], $11::text[], $12::text[], $13::jsonb[], $14::jsonb[],
                     $15::bool[], $16::text[], $17::bool[])
ON CONFLICT (rule_id, series_id, breached_at) DO NOTHING
RETURNING alert_id
