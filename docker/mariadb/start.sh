#!/bin/sh
# The init file takes one statement a line; a second one on a line is dropped without a word.
set -eu
init=/run/mysqld/init.sql
{
    echo "CREATE USER IF NOT EXISTS root@'%';"
    echo "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;"
    for name in ${DATABASES:-}; do
        echo "CREATE DATABASE IF NOT EXISTS $name;"
    done
} > "$init"
exec mariadbd --defaults-file=/etc/backstay/mariadb.cnf --init-file="$init"
