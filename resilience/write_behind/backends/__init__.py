"""Where balances are kept while the cache has the turn: `local` (memory, SQLite) and `redis`."""
