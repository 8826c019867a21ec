-- $1 prefix
SELECT revoked_at FROM api_keys WHERE prefix = $1
