-- $1 number of readings, $2 packed batch
INSERT INTO flushes (readings, batch) VALUES ($1, $2)
