"""Real servers under the tests: Redis, PostgreSQL, MariaDB and ZooKeeper in containers, one set per test run.

The fixtures in tests/conftest.py are the usual way in. Outside pytest:

    with servers.running("redis", "postgres") as addresses:
        addresses["redis"]          # redis://127.0.0.1:20123/0

or, from a shell, `python -m servers up --parts redis,postgres` (with tests/ on the path).

Nothing here is imported by Backstay itself. Containers listen on 127.0.0.1 only, without passwords.
"""

from __future__ import annotations

from .engine import EngineMissing
from .external import External, NotOurs
from .parts import PARTS, Part, external_url
from .run import Run, running

__all__ = ["PARTS", "EngineMissing", "External", "NotOurs", "Part", "Run", "external_url", "running"]
