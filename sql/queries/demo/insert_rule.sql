-- $1 id, $2 tenant id, $3 name, $4 metric, $5 condition, $6 severity, $7 seconds of cooldown, $8 destinations, $9 devices
INSERT INTO rules (rule_id, tenant_id, name, metric, device_pattern, condition, severity, cooldown_seconds, destination_ids)
SELECT $1, $2, $3, $4, $9, $5, $6, $7, $8
WHERE NOT EXISTS (SELECT FROM rules WHERE tenant_id = $2 AND name = $3 AND state <> 'archived')
