-- $1 rule
SELECT version, changed_at, changed_by, definition AS columns FROM rule_versions WHERE rule_id = $1
ORDER BY version DESC LIMIT 1000
