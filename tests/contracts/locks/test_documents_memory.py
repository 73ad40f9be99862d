"""The contract of documents over memory, in both makes."""

from __future__ import annotations

import uuid

import pytest

from backstay.locks import AsyncLocks, Locks
from backstay.testing.locks import DocumentsContract


class TestMemoryDocuments(DocumentsContract):
    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"

    def connect(self) -> Locks:
        return Locks.connect(self.url, namespace="contract")

    def connect_async(self) -> AsyncLocks:
        return AsyncLocks.connect(self.url, namespace="contract")
