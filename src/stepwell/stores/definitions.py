"""What every store promises of deployed definitions, and of outputs that are kept for other runs; part of `Store`.

A version is known by its workflow's name and its digest, and does not change: what differs between two bodies of one
digest (titles, positions on a screen) has no meaning for runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from stepwell.stores.tables import DefinitionRow, NewDefinition

Version: TypeAlias = tuple[str, str]
"""A workflow's name, and the digest of a version of it, or `DRAFT`."""

FORGOTTEN_AT_ONCE: Final = 64
"""How many outputs that have expired go at most when another one is put."""


class Definitions(Protocol):
    """The part of a store that keeps workflows which are data. The rules of `stores.protocol` hold for it, too."""

    # -- definitions --------------------------------------------------------------------------------------------
    async def put_definition(
        self, definition: NewDefinition, *, activate: bool = False, move_label: bool = False
    ) -> bool:
        """Keep a version, its label, and whether new runs are of it, in one transaction; whether it is new.

        A version that is there keeps its `created_at` and `by`, and gets the body. With `activate` it takes the place
        of the version that was active; without, nothing changes in that. Raises `LabelTaken` when the label stands
        for another version of the workflow, unless `move_label`; nothing has changed then. A draft takes the place of
        the workflow's draft, has no label and cannot be activated (`WrongStatus`).
        """

    async def definition(self, name: str, version: str = "") -> DefinitionRow | None:
        """A version of a workflow by its digest, else by its label, with its body; the active one for "".

        None when there is none. `DRAFT` gives the draft. Raises `CorruptJournal` when the body is not what was put.
        """

    async def definitions(self, name: str = "") -> list[DefinitionRow]:
        """Versions and drafts without their bodies, of one workflow or all: by name, the last put for the first time
        first."""

    async def set_active(self, name: str, digest: str) -> bool:
        """Let new runs of a workflow be of this version, or ("") of none; False when there is no such version.

        A draft is never active. With "", False when none was active.
        """

    async def drop_definitions(self, versions: Sequence[Version], *, put_before: int) -> list[Version]:
        """Delete those of the versions that no run needs, with their labels; returns which.

        A run that is kept needs the version that it was created with, and each that it was upgraded to. A version put
        at `put_before` or later stays: its run may be about to be created. Drafts go when they are named.
        """

    # -- kept outputs -------------------------------------------------------------------------------------------
    async def cached(self, key: str, *, now: int) -> bytes | None:
        """The payload kept under a key; None when there is none, when it has expired (`expires_at <= now`), and when
        it is not what was put."""

    async def put_cached(self, key: str, payload: bytes, *, at: int, expires_at: int | None = None) -> None:
        """Keep a payload under a key, in place of what is there, until `expires_at` (None: until it is forgotten).

        A few that have expired by `at` are forgotten with it (`FORGOTTEN_AT_ONCE`), so that they do not gather.
        """

    async def forget_cached(self, *, before: int) -> int:
        """Delete payloads that were put, or have expired, before this time; returns how many."""
