#!/bin/sh
# Creates the databases named in $DATABASES on the first start. One statement a line, read by the single-user server; a
# failure ends the container, since a server that answers while a database is missing is worse than none.
set -eu
if [ -n "${DATABASES:-}" ] && [ ! -e "$PGDATA/backstay-databases" ]; then
    for name in $DATABASES; do
        echo "CREATE DATABASE $name"
    done | postgres --single -D "$PGDATA" postgres > /dev/null
    touch "$PGDATA/backstay-databases"
fi
exec postgres -D "$PGDATA"
