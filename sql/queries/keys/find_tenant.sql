-- $1 name
SELECT tenant_id FROM tenants WHERE name = $1
