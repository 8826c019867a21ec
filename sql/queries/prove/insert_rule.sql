-- $1 id, $2 tenant id, $3 name, $4 metric, $5 condition, $6 seconds of cooldown, $7 destinations
INSERT INTO rules (rule_id, tenant_id, name, metric, condition, severity, cooldown_seconds, destination_ids)
VALUES ($1, $2, $3, $4, $5, 'critical', $6, $7)
