SELECT ensure_partition(parent, (now() AT TIME ZONE 'UTC')::date + day)
FROM unnest(ARRAY['delivery_attempts', 'notification_alerts', 'notifications', 'readings', 'readings_1m']) AS parent
CROSS JOIN generate_series(-1, 3) AS day
ORDER BY parent, day
