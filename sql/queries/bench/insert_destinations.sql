-- $1 ids, $2 tenant id, $3 settings of hubs, $4 their sealed secrets
INSERT INTO destinations (destination_id, tenant_id, name, kind, settings, secret)
SELECT d.destination_id, $2, 'hub ' || d.place, 'hub', d.settings, d.secret
FROM unnest($1::uuid[], $3::jsonb[], $4::bytea[]) WITH ORDINALITY AS d (destination_id, settings, secret, place)
