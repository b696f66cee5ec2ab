"""Tasks that the scenarios of graphs call, some of them in processes of their own."""

from __future__ import annotations

from typing import Any

from stepwell import ctx, task


@task(executor="process")
def keyed(what: str = "") -> dict[str, Any]:
    """What an attempt in another process sees of itself, and of the input."""
    return {"key": ctx.idempotency_key, "length": len(what), "last": what[-3:]}
