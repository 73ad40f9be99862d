"""What Backstay's own tests stand on, for the tests of those who use it or write a backend for it.

* `ManualClock`: time that moves when the test says so.
* `measured`: what the library counted while a block ran.
* `backstay.testing.proxy`: a TCP proxy that loses, delays and cuts what real servers say.
* `backstay.testing.bytecode`: finds counter updates that lose counts between threads.
* Contract suites: one module a package (`backstay.testing.runtime`, `.locks`, `.resilience`, ...), one class a
  port, named `<Port>Contract`.

A contract suite is a plain class whose `test_*` methods use what its abstract members give. It does not
begin with `Test`, so pytest collects it only where it is subclassed:

    class TestMyRuntime(RuntimeContract):
        def run(self, work):
            return drive(work(MyRuntime()))

A backend that passes unchanged keeps the port's promises; the suite never asks which backend it is. Suites
need pytest; this module does not.
"""

from __future__ import annotations

from backstay.testing.clock import ManualClock
from backstay.testing.telemetry import Measured, measured

__all__ = ["ManualClock", "Measured", "measured"]
