-- $1 stream; read before the owed flushes: what is heard until then is in them. NULL: no word yet.
SELECT c.version, c.alerts_version, (SELECT heard_until FROM watermarks WHERE stream = $1) FROM config_version c
