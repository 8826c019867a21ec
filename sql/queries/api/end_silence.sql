-- $1 silence, $2 who, $3 why or NULL, $4 id of the action. No row: it is not there, or has ended before.
WITH ended AS (
  UPDATE silences SET ends_at = now(), ended_by = $2
  WHERE silence_id = $1 AND ended_by IS NULL AND ends_at > now()
  RETURNING silence_id, tenant_id
)
INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, reason)
SELECT $4, tenant_id, $2, 'silence.ended', silence_id::text, $3 FROM ended
