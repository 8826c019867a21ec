SELECT count(*) FROM flushes WHERE quarantine_reason IS NOT NULL
