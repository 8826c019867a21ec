-- $1 tenant ids
SELECT tenant_id, device_count, series_count, max_devices, max_series FROM lock_quotas($1::int[])
