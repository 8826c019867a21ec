-- $1 so many at most. Returns how many chains were forgotten.
SELECT prune_chains($1)
