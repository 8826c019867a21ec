-- $1 who changes things until the transaction ends
SELECT set_config('watchbell.actor', $1, true)
