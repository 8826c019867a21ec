-- Locked until the end: whoever changes a rule, a silence or an alert by hand comes before this or after it.
SELECT version, alerts_version FROM config_version FOR SHARE
