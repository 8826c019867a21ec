-- $1 rule; $2.. its columns, as in change_rule.sql; for the tenant of the transaction
INSERT INTO rules (rule_id, tenant_id, name, metric, device_pattern, device_ids, device_tags, condition, severity,
                   cooldown_seconds, resolve_after_seconds, reminder_seconds, escalations, labels, runbook_url, destination_ids)
VALUES ($1, current_tenant_id(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
