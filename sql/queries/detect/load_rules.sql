SELECT rule_id, version, tenant_id, name, metric, device_pattern, condition, severity, cooldown_seconds, destination_ids
FROM rules WHERE state = 'active'
