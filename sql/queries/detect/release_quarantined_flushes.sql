UPDATE flushes SET quarantine_reason = NULL WHERE quarantine_reason IS NOT NULL
