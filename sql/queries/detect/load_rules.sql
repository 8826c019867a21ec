-- `known_fault` is why a rule was marked faulted.
SELECT rule_id, version, tenant_id, name, metric, device_pattern, device_ids, device_tags, condition, severity,
       cooldown_seconds, resolve_after_seconds, reminder_seconds, escalations, labels, runbook_url, destination_ids,
       CASE WHEN state = 'faulted' THEN coalesce(fault, '') END AS known_fault
FROM rules WHERE state IN ('active', 'faulted')
