-- $1 silence, $2 rule or NULL, $3 pattern or NULL, $4 tags, $5 from, $6 until, $7 who, $8 why, $9 id of the action; for the
-- tenant of the transaction. No row: it has no such rule.
WITH made AS (
  INSERT INTO silences (silence_id, tenant_id, rule_id, device_pattern, device_tags, starts_at, ends_at, created_by, reason)
  SELECT $1, current_tenant_id(), $2, $3, $4, $5, $6, $7, $8
  WHERE $2::uuid IS NULL OR EXISTS (SELECT FROM rules WHERE rule_id = $2 AND state <> 'archived')
  RETURNING silence_id, tenant_id, created_by, reason
)
INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, reason)
SELECT $9, tenant_id, created_by, 'silence.created', silence_id::text, reason FROM made
