-- $1 id, $2 tenant id, $3 name, $4 kind, $5 settings, $6 sealed secret
INSERT INTO destinations (destination_id, tenant_id, name, kind, settings, secret)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, name) DO UPDATE SET settings = excluded.settings, secret = excluded.secret,
  state = 'active', state_reason = NULL, held_until = NULL
