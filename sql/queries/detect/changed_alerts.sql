-- $1 version: the series of the alerts that were changed by hand since
SELECT DISTINCT series_id FROM alerts WHERE changed_version > $1
