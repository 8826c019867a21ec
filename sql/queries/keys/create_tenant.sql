-- $1 name, $2 action_id, $3 actor. No row: the tenant exists.
WITH made AS (
  INSERT INTO tenants (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING tenant_id, name
), recorded AS (
  INSERT INTO admin_actions (action_id, tenant_id, actor, action, target)
  SELECT $2, tenant_id, $3, 'tenant.created', name FROM made
)
SELECT tenant_id FROM made
