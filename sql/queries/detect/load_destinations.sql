SELECT destination_id, tenant_id, name, kind, settings FROM destinations WHERE archived_at IS NULL
