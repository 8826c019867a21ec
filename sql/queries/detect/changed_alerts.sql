-- $1 version: the series of the alerts that were changed by hand since; above 0 are those that ever were, which are indexed
SELECT DISTINCT series_id FROM alerts WHERE changed_version > 0 AND changed_version > $1
