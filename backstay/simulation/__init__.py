"""The third runtime: protocols under virtual time, seeded interleaving and seeded faults.

A `World` has a clock that moves only when nobody can run, a pseudo-random choice among those who can,
and hosts that crash, stall and have clocks of their own. One seed gives one history, so a failing seed
is a test that fails again. Invariants are checked after every step.

    world = World(seed)
    client, server = world.host("client", rate=1.001), world.host("server")
    world.start(client, work(client))          # `work` is a coroutine over ports and a runtime
    world.invariant(lambda: check(state))
    world.run()

What it explores: interleavings at awaits, messages lost, delayed, duplicated and overtaken, hosts dead
or asleep between any two steps, clocks apart in offset and in rate. What it does not see: races of real
threads between two bytecodes. Those need stress tests.
"""

from __future__ import annotations

from backstay.simulation.host import Host
from backstay.simulation.network import Network
from backstay.simulation.task import Deadlock, Task
from backstay.simulation.world import World

__all__ = ["Deadlock", "Host", "Network", "Task", "World"]
