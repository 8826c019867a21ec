-- The last columns: seconds that it is still held, the tenant's name. Archived ones too: what is owed to them is still owed.
SELECT d.destination_id, d.name, d.kind, d.settings, d.secret, d.policy, d.state,
       greatest(coalesce(extract(epoch FROM d.held_until - now()), 0), 0)::float8, t.name
FROM destinations d JOIN tenants t USING (tenant_id)
ORDER BY d.destination_id
