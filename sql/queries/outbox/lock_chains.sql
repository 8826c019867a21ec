-- arrays: $1 destinations, $2 rules, $3 series, $4 alerts that are over or NULL
SELECT notification_id, destination_id, rule_id, series_id, alert_id, waits_for FROM lock_chains($1, $2, $3, $4)
