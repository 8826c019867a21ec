SELECT name, device_count, max_devices, series_count, max_series, created_at FROM tenants ORDER BY name
