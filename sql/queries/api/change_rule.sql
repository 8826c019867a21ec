-- $1 rule, $2 .. $15 its columns. One that could not be judged is tried again.
UPDATE rules SET name = $2, metric = $3, device_pattern = $4, device_ids = $5, device_tags = $6, condition = $7, severity = $8,
  cooldown_seconds = $9, resolve_after_seconds = $10, reminder_seconds = $11, escalations = $12, labels = $13,
  runbook_url = $14, destination_ids = $15, state = 'active', fault = NULL
WHERE rule_id = $1
