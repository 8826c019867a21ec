-- $1 prefix, $2 reason, $3 action_id, $4 actor. No row: no such key, or it was revoked before.
WITH revoked AS (
  UPDATE api_keys SET revoked_at = now() WHERE prefix = $1 AND revoked_at IS NULL
  RETURNING tenant_id, prefix, name
), recorded AS (
  INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, reason)
  SELECT $3, tenant_id, $4, 'key.revoked', prefix, $2 FROM revoked
)
SELECT t.name AS tenant, r.name FROM revoked r JOIN tenants t ON t.tenant_id = r.tenant_id
