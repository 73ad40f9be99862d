"""Servers that work together: Redis with Sentinel, Redis Cluster, a ZooKeeper ensemble.

Each set lives in one network namespace, its pod, which publishes every member's port on 127.0.0.1 under the same number
inside and outside. So an address means the same to clients and to members, whatever the members tell each other about
themselves, and each member can be killed, paused and started alone. A member cannot be cut off the network alone: pause
it, or put a proxy in front of it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from testcontainers.core.container import DockerContainer

from .parts import PARTS, Part
from .server import STARTING_LIMIT, Server, UntilItServes, publish, start_on_free_ports

T = TypeVar("T")

Member = tuple[Part, list[str] | None, Mapping[str, str]]
"""A kind of server, its command (None: the image's own), its environment."""

SENTINEL_SERVICE = "shop"
"""The name that Sentinel knows the master by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinels:
    """A master, two replicas, three Sentinels with a quorum of two."""

    url: str
    redis: Sequence[Server]
    sentinels: Sequence[Server]

    def master(self) -> Server:
        """The master that the Sentinels agree on now; polls while they do not."""
        return until(self._agreed_master, "the Sentinels to agree on a master")

    def _agreed_master(self) -> Server | None:
        told: set[str] = set()
        for sentinel in self.sentinels:
            with contextlib.suppress(RuntimeError):  # paused or dead ones are not asked
                if sentinel.is_running:
                    told.add(sentinel.run(*_cli(sentinel), "sentinel", "get-master-addr-by-name", SENTINEL_SERVICE))
        if len(told) != 1:
            return None
        port = int(told.pop().split()[1])
        master = next(server for server in self.redis if server.port == port)
        if master.is_running and master.run(*_cli(master), "role").split()[0] == "master":
            return master
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Three masters with a replica each."""

    url: str
    nodes: Sequence[Server]

    def master_of(self, key: str) -> Server:
        """The node that serves this key now; polls while the cluster has not settled."""

        def find() -> Server | None:
            for node in self.nodes:
                if not node.is_running:
                    continue
                slot = int(node.run(*_cli(node), "cluster", "keyslot", key))
                shown = node.run(*_cli(node), "cluster", "nodes").splitlines()
                for line in shown:
                    _, address, flags, *_ = line.split()
                    if "master" in flags.split(",") and "fail" not in flags and _serves(line.split()[8:], slot):
                        port = int(address.partition("@")[0].rpartition(":")[2])
                        return next(server for server in self.nodes if server.port == port)
            return None

        return until(find, f"a master of {key!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Three ZooKeeper servers."""

    url: str
    members: Sequence[Server]

    def leader(self) -> Server:
        """The member that leads now; polls while there is none."""
        return until(lambda: next((m for m in self.members if mode(m) == "leader"), None), "a leader")


def mode(member: Server) -> str | None:
    """`leader`, `follower`, `standalone`, or None while the member does not serve."""
    if not member.is_running:
        return None
    with contextlib.suppress(OSError), socket.create_connection((member.host, member.port), timeout=2) as asked:
        asked.sendall(b"srvr")
        for line in asked.makefile(encoding="ascii", errors="replace"):
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ").strip()
    return None


@contextlib.contextmanager
def sentinels(images: Mapping[str, str], labels: Mapping[str, str]) -> Iterator[Sentinels]:
    """Redis with Sentinel, ready when every Sentinel knows the other two and both replicas."""
    with _pod(images["redis"], labels, 6) as pod:
        ports, watching = pod.ports[:3], pod.ports[3:]
        common = ["redis-server", "/etc/backstay/redis.conf", "--replica-announce-ip", "127.0.0.1"]
        commands = [[*common, "--port", str(port)] for port in ports]
        for command in commands[1:]:
            command += ["--replicaof", "127.0.0.1", str(ports[0])]
        conf = (
            "port {port}\\ndir /data\\nprotected-mode no\\nsentinel resolve-hostnames no\\n"
            f"sentinel monitor {SENTINEL_SERVICE} 127.0.0.1 {ports[0]} 2\\n"
            f"sentinel down-after-milliseconds {SENTINEL_SERVICE} 1000\\n"
            f"sentinel failover-timeout {SENTINEL_SERVICE} 3000\\n"
            "sentinel announce-ip 127.0.0.1\\nsentinel announce-port {port}\\n"
        )
        # Sentinel rewrites its file: a restarted one must find what it had learnt.
        script = (
            "[ -e /data/sentinel.conf ] || printf '{conf}' > /data/sentinel.conf;"
            " exec redis-sentinel /data/sentinel.conf"
        )
        commands += [["sh", "-c", script.format(conf=conf.format(port=port))] for port in watching]
        kinds: list[Member] = [(_redis(port), command, {}) for port, command in zip(pod.ports, commands, strict=True)]
        redis = pod.start(kinds[:3])
        # A Sentinel asks the master for its replicas when it starts and then only every ten seconds.
        until(lambda: "connected_slaves:2" in redis[0].run(*_cli(redis[0]), "info", "replication"), "two replicas")
        sentinels = pod.start(kinds[3:])

        def settled() -> bool:
            for sentinel in sentinels:
                shown = sentinel.run(*_cli(sentinel), "sentinel", "master", SENTINEL_SERVICE).split("\n")
                facts = dict(zip(shown[::2], shown[1::2], strict=False))
                if (facts["num-other-sentinels"], facts["num-slaves"], facts["flags"]) != ("2", "2", "master"):
                    return False
            return True

        until(settled, "the Sentinels to know each other and the replicas")
        addresses = ",".join(f"127.0.0.1:{port}" for port in watching)
        yield Sentinels(url=f"redis+sentinel://{addresses}/{SENTINEL_SERVICE}/0", redis=redis, sentinels=sentinels)


@contextlib.contextmanager
def cluster(images: Mapping[str, str], labels: Mapping[str, str]) -> Iterator[Cluster]:
    """Redis Cluster, ready when every node says ok and every master has its replica."""
    with _pod(images["redis"], labels, 6) as pod:
        common = ["redis-server", "/etc/backstay/redis.conf", "--cluster-enabled", "yes", "--databases", "1"]
        common += ["--cluster-announce-ip", "127.0.0.1", "--cluster-node-timeout", "1500"]
        common += ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]
        # The bus is spoken inside the pod only, so its ports need no publishing.
        nodes = pod.start(
            [
                (_redis(port), [*common, "--port", str(port), "--cluster-port", str(10001 + number)], {})
                for number, port in enumerate(pod.ports)
            ]
        )
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        nodes[0].run("redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes")

        def settled() -> bool:
            linked = 0
            for node in nodes:
                info = node.run(*_cli(node), "cluster", "info")
                if "cluster_state:ok" not in info or "cluster_known_nodes:6" not in info:
                    return False
                linked += "master_link_status:up" in node.run(*_cli(node), "info", "replication")
            return linked == 3

        until(settled, "the cluster to settle")
        yield Cluster(url="redis+cluster://" + ",".join(addresses), nodes=nodes)


@contextlib.contextmanager
def ensemble(images: Mapping[str, str], labels: Mapping[str, str]) -> Iterator[Ensemble]:
    """Three ZooKeeper servers, ready when one leads and two follow."""
    with _pod(images["zookeeper"], labels, 3) as pod:
        servers = " ".join(f"127.0.0.1:{10001 + n}:{11001 + n};{port}" for n, port in enumerate(pod.ports))
        members = pod.start(
            [
                (_zookeeper(port), None, {"SERVERS": servers, "ID": str(number)})
                for number, port in enumerate(pod.ports, start=1)
            ]
        )
        roles = ["follower", "follower", "leader"]
        until(lambda: sorted(mode(member) or "" for member in members) == roles, "one leader and two followers")
        yield Ensemble(url="zookeeper://" + ",".join(f"127.0.0.1:{port}" for port in pod.ports), members=members)


class Pod:
    """The network namespace that a set's members share."""

    def __init__(self, image: str, labels: Mapping[str, str], container: DockerContainer, ports: Sequence[int]) -> None:
        self.ports = ports
        self._image = image
        self._labels = labels
        self._container = container
        self._members: list[Server] = []

    def start(self, members: Sequence[Member]) -> Sequence[Server]:
        """Start all members (kind, command, environment) at once and wait until each serves."""
        with ThreadPoolExecutor(len(members)) as pool:
            return list(pool.map(lambda member: self._start(*member), members))

    def _start(self, part: Part, command: list[str] | None, environment: Mapping[str, str]) -> Server:
        inside = f"container:{self._container.get_container_id()}"
        container = DockerContainer(self._image).with_envs(**dict(environment))
        container.with_kwargs(labels=dict(self._labels), network_mode=inside)
        if command is not None:
            container.with_command(command)
        server = Server(part, container, part.port)
        self._members.append(server)
        container.waiting_for(UntilItServes(part, server.url))
        container.start()
        return server

    def remove(self) -> None:
        """Remove the members, then the namespace under them."""
        for member in self._members:
            member.remove()
        self._container.stop()


@contextlib.contextmanager
def _pod(image: str, labels: Mapping[str, str], count: int) -> Iterator[Pod]:
    def make(ports: Sequence[int]) -> DockerContainer:
        container = DockerContainer(image, command="sleep infinity")
        container.with_kwargs(labels=dict(labels), init=True)  # without init it would ignore SIGTERM for ten seconds
        publish(container, {port: port for port in ports})
        return container

    container, ports = start_on_free_ports(count, make)
    pod = Pod(image, labels, container, ports)
    try:
        yield pod
    finally:
        pod.remove()


def _redis(port: int) -> Part:
    ready = f'[ "$(redis-cli -p {port} ping)" = PONG ]'
    return replace(PARTS["redis"], port=port, ready=("sh", "-c", ready))


def _zookeeper(port: int) -> Part:
    """Ready as soon as it listens: alone it serves nobody, so the set waits for the roles instead."""
    listens = ("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo ruok >&3 && grep -q imok <&3")
    return replace(PARTS["zookeeper"], port=port, ready=listens, connect=lambda url: None)


def _cli(server: Server) -> tuple[str, ...]:
    return ("redis-cli", "-p", str(server.port))


def _serves(ranges: Sequence[str], slot: int) -> bool:
    for text in ranges:
        if not text.startswith("["):  # a slot on the move
            first, _, last = text.partition("-")
            if int(first) <= slot <= int(last or first):
                return True
    return False


def until(ask: Callable[[], T | Literal[False] | None], what: str) -> T:
    """Poll until the answer is neither None nor False, and return it."""
    end = time.monotonic() + STARTING_LIMIT
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"waited {STARTING_LIMIT:g} s for {what}")
        time.sleep(0.05)
