SELECT rule_id, series_id, breached_at, late FROM alerts
