#!/bin/bash
# Ticks are short (500 ms) so that sessions of one second are possible; syncLimit x tickTime is how long a stopped leader
# keeps its followers.
set -eu
conf=/data/zoo.cfg
cat > "$conf" <<CONF
tickTime=500
minSessionTimeout=1000
maxSessionTimeout=60000
initLimit=20
syncLimit=4
dataDir=/data
admin.enableServer=false
4lw.commands.whitelist=*
maxClientCnxns=0
CONF
if [ -n "${SERVERS:-}" ]; then
    echo "${ID:?which of SERVERS is this one, counted from 1}" > /data/myid
    number=0
    for server in $SERVERS; do
        number=$((number + 1))
        echo "server.$number=$server" >> "$conf"
    done
else
    echo "clientPort=2181" >> "$conf"
fi
exec java -Xmx128m -Xss256k -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
    -Dzookeeper.extendedTypesEnabled=true -Dznode.container.checkIntervalMs=500 \
    -cp '/opt/zookeeper:/opt/zookeeper/*' org.apache.zookeeper.server.quorum.QuorumPeerMain "$conf"
