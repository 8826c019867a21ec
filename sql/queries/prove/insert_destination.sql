-- $1 id, $2 tenant id, $3 settings, $4 sealed secret
INSERT INTO destinations (destination_id, tenant_id, name, kind, settings, secret) VALUES ($1, $2, 'hub', 'hub', $3, $4)
