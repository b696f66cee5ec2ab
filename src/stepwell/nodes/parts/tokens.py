"""How does a model's text get to whoever reads the run's stream, and what does it count there?

Text is emitted as it comes and counts nothing; what was used is counted once, with an empty chunk behind it. So nothing
is counted twice when the endpoint says at the end what it took.
"""

from __future__ import annotations

from typing import Final

from stepwell.nodes.protocol import ActionContext

LETTERS_PER_TOKEN: Final = 4
"""What an estimate takes a token for: about right for English, too few tokens for most other languages."""

PIECE: Final = 8_000
"""Characters of one chunk: however they are written in JSON, it is smaller than a chunk may be."""


def estimate(letters: int) -> int:
    """About how many tokens so many characters are."""
    return -(-letters // LETTERS_PER_TOKEN)


async def emit_text(context: ActionContext, text: str) -> None:
    """Send text that came; readers are not told of an empty one."""
    for start in range(0, len(text), PIECE):
        await context.emit(text[start : start + PIECE], {"tokens": 0})


async def emit_counts(context: ActionContext, prompt: int, completion: int, total: int, *, estimated: bool) -> None:
    """Count what was used: `tokens` in all, of them `estimated_tokens` a guess."""
    found = {"tokens": total, "prompt_tokens": prompt, "completion_tokens": completion}
    await context.emit("", {**found, "estimated_tokens": total} if estimated else found)
