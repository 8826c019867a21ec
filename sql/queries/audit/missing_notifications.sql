SELECT count(*) FROM deliveries WHERE status = 'missing'
