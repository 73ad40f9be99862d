"""The contract of documents under the name that it had first; see `backstay.testing.locks`."""

from __future__ import annotations

from backstay.testing.locks.documents import DocumentsContract

__all__ = ["DocumentsContract"]
