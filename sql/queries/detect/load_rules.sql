-- The last column is why a rule was marked faulted.
SELECT rule_id, version, tenant_id, name, metric, device_pattern, condition, severity, cooldown_seconds, destination_ids,
       CASE WHEN state = 'faulted' THEN coalesce(fault, '') END
FROM rules WHERE state IN ('active', 'faulted')
