SELECT batch FROM flushes WHERE quarantine_reason IS NULL
