-- The last column is the tenant's name. Archived ones too: what is owed to them is still owed.
SELECT d.destination_id, d.name, d.kind, d.settings, d.secret, d.policy, t.name
FROM destinations d JOIN tenants t USING (tenant_id)
ORDER BY d.destination_id
