"""The last document that all consumers applied, kept on this host for a start without the source (SW-7)."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from backstay.errors import Misuse, Unavailable

from .envelope import LARGEST, Envelope

__all__ = ["LastKnownGood"]


class LastKnownGood:
    """One file, replaced as a whole: a reader sees the old document or the new one, also after a loss of power.

    Several processes may share a file; each writes what it applied, and none replaces a newer one that it sees there.

    Args:
        path: of the file; its folder is made when the first document is kept.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def load(self) -> Envelope | None:
        """Return the kept document, or None if there is no file.

        Raises:
            Misuse: the file holds no whole envelope, or one whose checksum is wrong.
            Unavailable: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(LARGEST + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"kept document {str(self.path)!r} cannot be read: {error.strerror or error}") from error
        try:
            return Envelope.parse(data)
        except Misuse as error:
            raise Misuse(f"kept document {str(self.path)!r}: {error}") from None

    def save(self, envelope: Envelope) -> bool:
        """Replace the kept document; return False if the one there is not older.

        Raises:
            Unavailable: it cannot be written, as on a full disk; the one there stays whole.
        """
        with contextlib.suppress(Misuse, Unavailable):  # what cannot be read is replaced
            there = self.load()
            if there is not None and there.scope == envelope.scope and there.cursor >= envelope.cursor:
                return False
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(envelope.to_bytes())
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self.path)
            except BaseException:
                with contextlib.suppress(OSError):  # never made, or already in place
                    partial.unlink()
                raise
            self._sync_folder()
        except OSError as error:
            raise Unavailable(f"document cannot be kept in {str(self.path)!r}: {error.strerror or error}") from error
        return True

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
