-- $1 id, $2 tenant id, $3 name, $4 metric, $5 condition, $6 seconds of cooldown, $7 destinations; resolved with the first clear reading
INSERT INTO rules (rule_id, tenant_id, name, metric, condition, severity, cooldown_seconds, destination_ids, resolve_after_seconds)
VALUES ($1, $2, $3, $4, $5, 'critical', $6, $7, 0)
