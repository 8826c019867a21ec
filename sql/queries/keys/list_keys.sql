-- $1 tenant's name; NULL: of all
SELECT t.name AS tenant, k.prefix, k.name, k.scopes, k.created_at, k.expires_at, k.revoked_at,
       CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked'
            WHEN k.expires_at <= now() THEN 'expired'
            ELSE 'active' END AS state
FROM api_keys k JOIN tenants t ON t.tenant_id = k.tenant_id
WHERE $1::text IS NULL OR t.name = $1
ORDER BY t.name, k.created_at, k.key_id
