-- $1 key_id, $2 tenant_id, $3 name, $4 prefix, $5 hash, $6 scopes, $7 days until it expires or NULL, $8 action_id, $9 actor
WITH made AS (
  INSERT INTO api_keys (key_id, tenant_id, name, prefix, hash, scopes, expires_at)
  VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))
  RETURNING tenant_id, prefix, expires_at
), recorded AS (
  INSERT INTO admin_actions (action_id, tenant_id, actor, action, target)
  SELECT $8, tenant_id, $9, 'key.created', prefix FROM made
)
SELECT expires_at FROM made
