"""The switch service: documents with history, roles and audit behind REST, pushed to whoever listens.

    from backstay.resilience.switch_service import Store, create_app
    app = create_app(Store("sqlite:///switches.db"))

Names are loaded when they are first used: importing the package needs none of its optional dependencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backstay.url import require

if TYPE_CHECKING:
    from .app import create_app
    from .store import Store

__all__ = ["Store", "create_app"]


def __getattr__(name: str) -> Any:
    if name == "Store":
        require("sqlalchemy", "switch-service")
        from .store import Store

        return Store
    if name == "create_app":
        require("sqlalchemy", "switch-service")
        require("fastapi", "switch-service")
        from .app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
