-- $1 names
SELECT name, tenant_id FROM tenants WHERE name = ANY ($1::text[])
