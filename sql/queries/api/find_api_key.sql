-- $1 prefix
SELECT key_id, tenant_id, tenant, name, hash, scopes, expired FROM find_api_key($1)
