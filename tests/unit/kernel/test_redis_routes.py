"""Following Sentinel and a Cluster, in virtual time: who is asked, whom is believed, and for how long it is tried."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from redis import exceptions

from backstay.errors import Misuse, OutcomeUnknown, Unavailable
from backstay.redis import ClusterRoute, Place, Precautions, Redirected, SentinelRoute, Settings, refused, target
from backstay.redis.precautions import evicts
from backstay.redis.sentinel import elected
from backstay.redis.slots import slot_of, topology
from backstay.simulation import Host, World

T = TypeVar("T")

A, B, C = ("a", 1), ("b", 2), ("c", 3)


@pytest.mark.parametrize(
    ("key", "slot"),
    [("foo", 12182), ("bar", 5061), ("123456789", 12739), ("", 0), ("{foo}:1", 12182), ("x{foo}{bar}", 12182)],
)
def test_R8_slots_are_those_of_the_specification(key: str, slot: int) -> None:
    assert slot_of(key) == slot


def test_R8_an_empty_tag_is_no_tag() -> None:
    assert slot_of("{}foo") != slot_of("foo")
    assert slot_of("foo{") == slot_of("foo{")
    assert slot_of("backstay:shop:{order:7}:owner") == slot_of("order:7")


def test_a_topology_is_read_and_a_node_without_a_name_is_the_one_that_was_asked() -> None:
    told = topology([[0, 1, [b"", 1, b"id"], [b"r", 9, b"id"]], [2, 2, [b"b", 2, b"id", []]]], A)
    assert told.masters == {0: A, 1: A, 2: B}
    assert told.nodes == {A, B, ("r", 9)}
    for nonsense in (None, 7, [7], [[0, 1]], [[0, 1, []]]):
        with pytest.raises(ValueError, match="CLUSTER SLOTS"):
            topology(nonsense, A)


# -- Sentinel


def master(place: Place, epoch: int, flags: str = "master") -> list[Any]:
    facts = {"name": "m", "ip": place[0], "port": str(place[1]), "flags": flags, "config-epoch": str(epoch)}
    return [[part.encode() for pair in facts.items() for part in pair]]


def test_the_latest_configuration_counts_whoever_answers_first() -> None:
    assert elected([master(A, 3), master(B, 4), master(A, 3), Unavailable("down")], "m") == (B, "")


def test_a_master_that_is_down_is_none() -> None:
    found, why = elected([master(A, 3, "o_down,s_down,master"), Unavailable("x")], "m")
    assert found is None
    assert "a:1 is down" in why


def test_without_an_answer_there_is_no_master_and_the_reasons_are_told() -> None:
    assert elected([Unavailable("one"), Unavailable("other")], "m") == (None, "one; other")


def test_a_name_that_no_sentinel_knows_and_refused_credentials_are_misuse() -> None:
    unknown = exceptions.ResponseError("No such master with that name")
    with pytest.raises(Misuse, match="knows a master called 'm'"):
        elected([[unknown], Unavailable("down")], "m")
    assert elected([[unknown], master(A, 1)], "m") == (A, ""), "one of them may be new"
    with pytest.raises(Misuse, match="credentials"):
        elected([Misuse("the credentials"), Unavailable("down")], "m")
    with pytest.raises(Misuse, match="refuse to name"):
        elected([[exceptions.NoPermissionError("no permission")]], "m")


class Servers:
    """Answers by address; counts the questions. A function is called, an exception is raised."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.answers: dict[Place, Any] = {}
        self.asked: list[Place] = []

    async def __call__(self, settings: Settings, commands: Sequence[Any], timeout: float) -> list[Any]:
        place = settings.host, settings.port
        self.asked.append(place)
        await self.host.sleep(0.001)
        answer = self.answers.get(place)
        if answer is None:
            await self.host.sleep(timeout)
            raise Unavailable(f"{place} is silent")
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def in_world(work: Callable[[Host, Servers], Coroutine[Any, Any, T]]) -> T:
    world = World(1)
    host = world.host("here")
    task = world.start(host, work(host, Servers(host)))
    world.run()
    return task.result()


def test_R9_the_master_is_asked_for_once_and_again_after_a_doubt() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = SentinelRoute(target("redis+sentinel://a:1,b:2/m"), servers, host)
        servers.answers = {A: master(("x", 9), 1), B: master(("x", 9), 1)}
        assert await route.place("k", 1.0) == ("x", 9)
        before = route.places
        assert await route.place("k", 1.0) == ("x", 9)
        assert len(servers.asked) == 2
        route.doubt(("x", 9))
        assert await route.place("k", 1.0) == ("x", 9)
        assert len(servers.asked) == 4
        assert route.places is before, "nobody has to leave the server"
        servers.answers = {A: master(("x", 9), 1), B: master(("y", 9), 2)}
        route.doubt(("z", 9))
        assert await route.place("k", 1.0) == ("x", 9), "a doubt about another server is none"
        route.doubt(("x", 9))
        assert await route.place("k", 1.0) == ("y", 9)
        assert route.places == {("y", 9)}

    in_world(work)


def test_R9_until_there_is_a_master_it_is_asked_again_within_the_callers_time() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = SentinelRoute(target("redis+sentinel://a:1,b:2/m"), servers, host)
        servers.answers = {A: master(("x", 9), 1, "master,o_down")}
        start = host.now()
        with pytest.raises(Unavailable, match=r"no master now: x:9 is down"):
            await route.place("k", 2.0)
        assert 1.5 < host.now() - start < 2.7
        servers.answers = {A: master(("y", 9), 2)}
        assert await route.place("k", 2.0) == ("y", 9)

    in_world(work)


def test_many_who_want_to_know_ask_once() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = SentinelRoute(target("redis+sentinel://a:1/m"), servers, host)
        servers.answers = {A: master(("x", 9), 1)}

        async def one() -> Place:
            return await route.place("k", 1.0)

        assert await host.gather(*[one] * 50) == [("x", 9)] * 50
        assert servers.asked == [A]

    in_world(work)


# -- Cluster


def slots(*ranges: tuple[int, int, Place]) -> list[Any]:
    return [[[first, last, [place[0].encode(), place[1], b"id"]] for first, last, place in ranges]]


ALL = slots((0, 8000, A), (8001, 16383, B))
FOO = 12182


def test_a_key_goes_where_its_slot_is_and_a_redirection_is_remembered() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = ClusterRoute(target("redis+cluster://a:1"), servers, host)
        servers.answers = {A: ALL, B: ALL}
        assert await route.place("foo", 1.0) == B
        assert await route.place("bar", 1.0) == A
        assert len(servers.asked) == 1
        assert route.redirected(Redirected("", slot=FOO, host="c", port=3, once=False), B) == C
        assert route.places == {A, B, C}
        assert await route.place("foo", 1.0) == C, "asked again too soon to hear more, but not forgotten"
        servers.answers = {A: slots((0, 16383, A))}
        await host.sleep(1.0)
        assert await route.place("foo", 1.0) == A, "the whole was asked for again"
        assert route.places == {A}

    in_world(work)


def test_a_redirection_for_one_request_changes_nothing_and_an_empty_host_is_the_one_that_was_asked() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = ClusterRoute(target("redis+cluster://a:1"), servers, host)
        servers.answers = {A: ALL, B: ALL}
        await route.place("foo", 1.0)
        assert route.redirected(Redirected("", slot=FOO, host="", port=7, once=True), B) == ("b", 7)
        assert await route.place("foo", 1.0) == B
        assert len(servers.asked) == 1

    in_world(work)


def test_a_node_that_is_silent_is_asked_last_and_costs_half_a_second_at_most() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = ClusterRoute(target("redis+cluster://a:1,b:2,c:3"), servers, host)
        servers.answers = {B: ALL}
        start = host.now()
        assert await route.place("foo", 5.0) == B
        assert host.now() - start < 1.2
        route.doubt(A)
        route.doubt(C)
        await host.sleep(0.2)
        servers.asked.clear()
        assert await route.place("foo", 5.0) == B
        assert servers.asked == [B]

    in_world(work)


def test_a_slot_that_nobody_serves_is_waited_for_within_the_callers_time() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = ClusterRoute(target("redis+cluster://a:1"), servers, host)
        servers.answers = {A: slots((0, 8000, A))}
        start = host.now()
        with pytest.raises(Unavailable, match="does not serve slot 12182 now"):
            await route.place("foo", 1.0)
        assert 0.8 < host.now() - start < 1.3

    in_world(work)


def test_a_server_alone_is_no_cluster() -> None:
    async def work(host: Host, servers: Servers) -> None:
        route = ClusterRoute(target("redis+cluster://a:1"), servers, host)
        servers.answers = {A: [exceptions.ResponseError("This instance has cluster support disabled")]}
        with pytest.raises(Misuse, match="connect with redis://"):
            await route.place("foo", 1.0)

    in_world(work)


# -- precautions and refusals

CONFIG = [b"maxmemory-policy", b"allkeys-lru", b"maxmemory", b"1000", b"maxmemory-samples", b"5"]
INFO = b"# Memory\r\nused_memory:1\r\nmaxmemory:1000\r\nmaxmemory_policy:volatile-ttl\r\n"
NO = exceptions.NoPermissionError("no permission")


@pytest.mark.parametrize(
    ("policy", "room", "may"),
    [("noeviction", 10, False), ("allkeys-lru", 0, False), ("allkeys-lru", 10, True), ("volatile-ttl", 10, True)],
)
def test_R11_who_evicts(policy: str, room: int, may: bool) -> None:
    assert evicts(policy, room) is may


@pytest.mark.parametrize(("config", "info", "says"), [(CONFIG, INFO, "allkeys-lru"), (NO, INFO, "volatile-ttl")])
def test_R11_a_server_that_may_evict_is_refused_and_the_cure_named(config: Any, info: Any, says: str) -> None:
    precautions = Precautions()
    with pytest.raises(Misuse, match=rf"{says}. Set it to noeviction.*eviction='allow'"):
        precautions.heed("redis://a", [config, info])
    assert precautions.questions("redis://a"), "it is asked again: somebody may have mended it"


def test_R11_eviction_can_be_allowed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    precautions = Precautions(eviction="allow")
    precautions.heed("redis://a", [CONFIG, INFO])
    assert "may evict keys" in caplog.text
    assert precautions.questions("redis://a") == (), "once for each server"
    assert precautions.questions("redis://b")


def test_R11_a_server_that_does_not_tell_is_used_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    Precautions().heed("redis://a", [NO, NO])
    assert "does not tell its maxmemory-policy" in caplog.text


def test_a_replica_is_no_master_and_is_asked_at_each_connection() -> None:
    precautions = Precautions(master=True)
    fine = [CONFIG[:1] + [b"noeviction"] + CONFIG[2:], INFO]
    with pytest.raises(Unavailable, match="it says that it is a slave"):
        precautions.heed("redis://a", [[b"slave", b"x", 1], *fine])
    precautions.heed("redis://a", [[b"master", 0, []], *fine])
    assert precautions.questions("redis://a") == (("ROLE",),)
    with pytest.raises(Unavailable, match="no master now"):
        precautions.heed("redis://a", [NO])


def test_R10_a_server_without_WAIT_cannot_have_min_replicas() -> None:
    precautions = Precautions(min_replicas=1)
    fine = [CONFIG[:1] + [b"noeviction"] + CONFIG[2:], INFO]
    with pytest.raises(Misuse, match="does not know WAIT"):
        precautions.heed("redis://a", [*fine, exceptions.ResponseError("unknown command 'wait'")])
    precautions.heed("redis://a", [*fine, 0])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exceptions.ReadOnlyError("You can't write against a read only replica."), Unavailable),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), Unavailable),
        (exceptions.ClusterDownError("The cluster is down"), Unavailable),
        (exceptions.MasterDownError("Link with MASTER is down"), Unavailable),
        (exceptions.TryAgainError("Multiple keys request during rehashing of slot"), Unavailable),
        (exceptions.OutOfMemoryError("command not allowed"), Unavailable),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), Unavailable),
        (exceptions.ResponseError("BUSY Redis is busy running a script."), Unavailable),
        (exceptions.MovedError("12182 127.0.0.1:7001"), Redirected),
        (exceptions.AskError("12182 127.0.0.1:7001"), Redirected),
        (exceptions.AuthenticationError("invalid password"), Misuse),
        (exceptions.NoPermissionError("no permission"), Misuse),
        (exceptions.ResponseError("wrong number of arguments"), Misuse),
    ],
)
def test_R9_what_a_refusal_means(error: Exception, kind: type[Exception]) -> None:
    failure = refused("redis://a", error, "it")
    assert type(failure) is kind
    assert failure.__cause__ is error
    assert not isinstance(failure, OutcomeUnknown)


def test_R9_redirections_say_where_and_for_how_long() -> None:
    moved = refused("redis://a", exceptions.MovedError("12182 ::1:7001"), "it")
    asked = refused("redis://a", exceptions.AskError("12182 b:7001"), "it")
    assert isinstance(moved, Redirected)
    assert isinstance(asked, Redirected)
    assert (moved.slot, moved.host, moved.port, moved.once) == (12182, "::1", 7001, False)
    assert (asked.slot, asked.host, asked.port, asked.once) == (12182, "b", 7001, True)
