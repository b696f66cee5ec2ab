"""Which photographs show the same drawing: exact nearest neighbours, a closer look at the near ones, then groups.

1. Every shape, softened, is compared with every other one by correlation: matrix products of blocks, so memory is
   bounded and Python never loops over pairs. Pairs over `CANDIDATE` go on.
2. Those are compared by tangent distance (P. Simard, Y. LeCun, J. Denker, *Efficient Pattern Recognition Using a New
   Transformation Distance*, NIPS 1992): what is left of the difference after the best small shift, scaling, tilt, shear
   and change of stroke. It tells a tilted copy from a drawing with another detail, which correlation does not.
3. Pairs over `THRESHOLD` are links; products connected by links are a group (union-find).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from stepwell.examples.catalogue.features import SIDE, unpack
from stepwell.examples.catalogue.records import Group, Score, Similar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Ints: TypeAlias = NDArray[np.int64]

CANDIDATE = 0.82
"""Correlation from which a pair is looked at closely; it keeps 99.5 % of the true pairs."""

THRESHOLD = 0.94
"""Similarity (1 - tangent distance) from which two photographs are taken to show the same drawing.

Chosen on the shop with seed 1 and checked on others: see the package's text for the figures.
"""

_MARGIN = 2
_SOFTNESS = 0.7
_CELLS_AT_ONCE = 1_500_000
_PAIRS_AT_ONCE = 256


def find_groups(numbers: Sequence[int], shapes: Sequence[str], threshold: float = THRESHOLD) -> Similar:
    """The groups among the photographs with these numbers and, in the same order, `Features.shape`s.

    Time grows with the square of their number (about 3 s for 10,000 on one core), memory linearly (about 6 kB each)
    over a fixed 40 MB.
    """
    import numpy as np

    if len(numbers) < 2:
        return Similar([], 0, 0, threshold)
    rows = _rows(shapes)
    first, second, likeness = _compare(rows)
    del rows
    near = likeness >= threshold
    links = zip(first[near].tolist(), second[near].tolist(), likeness[near].tolist(), strict=True)
    scores: dict[int, float] = {}
    pairs: list[tuple[int, int]] = []
    for a, b, value in links:
        pairs.append((a, b))
        scores[a] = max(scores.get(a, 0.0), value)
        scores[b] = max(scores.get(b, 0.0), value)
    groups = [
        Group([numbers[at] for at in members], [round(scores[at], 4) for at in members])
        for members in connected(len(numbers), pairs)
    ]
    groups.sort(key=lambda group: (-len(group.members), group.members))
    return Similar(groups, len(first), int(np.count_nonzero(near)), threshold)


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The sets of two and more of `0 … count - 1` that the pairs connect, each ascending (union-find)."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    for a, b in pairs:
        parent[root(b)] = root(a)
    sets: dict[int, list[int]] = {}
    for at in range(count):
        sets.setdefault(root(at), []).append(at)
    return [members for members in sets.values() if len(members) > 1]


def score_groups(found: Iterable[Sequence[int]], truth: Iterable[Sequence[int]], among: Iterable[int]) -> Score:
    """Count pairs: those in one true group, in one found group, and in both; only products in `among` count."""
    known = set(among)
    of: dict[int, int] = {}
    true_pairs = found_pairs = correct = 0
    for name, group in enumerate(truth):
        inside = [number for number in group if number in known]
        true_pairs += _pairs(len(inside))
        of.update(dict.fromkeys(inside, name))
    for members in found:
        inside = [number for number in members if number in known]
        found_pairs += _pairs(len(inside))
        together: dict[int, int] = {}
        for number in inside:
            if number in of:
                together[of[number]] = together.get(of[number], 0) + 1
        correct += sum(map(_pairs, together.values()))
    return Score(true_pairs, found_pairs, correct)


def _pairs(count: int) -> int:
    return count * (count - 1) // 2


def _rows(shapes: Sequence[str]) -> Floats:
    """The shapes with a margin, softened, one a row, centred and of length 1."""
    import numpy as np

    rows = np.empty((len(shapes), (SIDE + 2 * _MARGIN) ** 2), dtype=np.float32)
    for start in range(0, len(shapes), 512):  # in blocks: softening makes several copies
        some = shapes[start : start + 512]
        levels = np.frombuffer(b"".join(map(unpack, some)), dtype=np.uint8)
        images = levels.reshape(-1, SIDE, SIDE).astype(np.float32)
        images = np.pad(images, [(0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)])
        block = _soften(_soften(images, 1), 2).reshape(len(some), -1)
        block -= block.mean(axis=1, keepdims=True)
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-6)
        rows[start : start + 512] = block
    return rows


def _soften(images: Floats, axis: int) -> Floats:
    """Convolve with a Gaussian of `_SOFTNESS` cells along one axis."""
    import numpy as np

    weights = np.exp(-0.5 * (np.arange(-3, 4) / _SOFTNESS) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    margin = [(0, 0), (0, 0), (0, 0)]
    margin[axis] = (3, 3)
    padded = np.pad(images, margin)
    length = images.shape[axis]
    soft = np.zeros_like(images)
    for offset, weight in enumerate(weights):
        soft += weight * (padded[:, offset : offset + length] if axis == 1 else padded[:, :, offset : offset + length])
    return soft


def _compare(rows: Floats) -> tuple[Ints, Ints, Floats]:
    """All candidate pairs `(first < second)` with their similarity, the mean of both directions."""
    import numpy as np

    count = len(rows)
    keys: list[Ints] = []
    distances: list[Floats] = []
    for start, near, other in _candidates(rows):
        stop = int(near.max()) + 1
        tangents = _tangents(rows[start : start + stop])
        inverse = _inverse_gram(tangents)
        for at in range(0, len(near), _PAIRS_AT_ONCE):
            here, there = near[at : at + _PAIRS_AT_ONCE], other[at : at + _PAIRS_AT_ONCE]
            row = here + start
            keys.append(np.minimum(row, there) * count + np.maximum(row, there))
            distances.append(_left_over(rows[there], tangents[here], inverse[here]))
    if not keys:
        none = np.empty(0, dtype=np.int64)
        return none, none, np.empty(0, dtype=np.float32)
    key, distance = np.concatenate(keys), np.concatenate(distances)
    order = np.argsort(key, kind="stable")
    key, distance = key[order], distance[order]
    pairs, begins = np.unique(key, return_index=True)  # each pair once or twice: rounding decides at the limit
    mean = np.add.reduceat(distance, begins) / np.diff(np.append(begins, len(key)))
    return pairs // count, pairs % count, (1 - mean).astype(np.float32)


def _candidates(rows: Floats) -> Iterator[tuple[int, Ints, Ints]]:
    """Blocks of rows that have candidates: where the block starts, rows counted from there, and their partners."""
    import numpy as np

    step = max(16, min(128, _CELLS_AT_ONCE // len(rows)))
    for start in range(0, len(rows), step):
        alike = rows[start : start + step] @ rows.T
        near, other = np.nonzero(alike > CANDIDATE)
        apart = other != near + start
        if apart.any():
            yield start, near[apart], other[apart]


def _tangents(rows: Floats) -> Floats:
    """Per row the nine directions in which it may change for free: `(rows, 9, cells)`.

    Two shifts, four linear maps (scalings, tilt, shear), thicker strokes, brightness and contrast.
    """
    import numpy as np

    side = SIDE + 2 * _MARGIN
    images = rows.reshape(-1, side, side)
    across, down = np.zeros_like(images), np.zeros_like(images)
    across[:, :, 1:-1] = (images[:, :, 2:] - images[:, :, :-2]) / 2
    down[:, 1:-1] = (images[:, 2:] - images[:, :-2]) / 2
    place = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = place[None, None, :], place[None, :, None]
    edges = np.sqrt(across**2 + down**2)
    flat = np.full_like(images, 1 / side)
    directions = [across, down, x * across, y * down, y * across, x * down, edges, flat, images]
    return np.stack(directions, axis=1).reshape(len(rows), len(directions), -1)


def _inverse_gram(tangents: Floats) -> Floats:
    """The inverses of the tangents' Gram matrices, kept regular by a ten-thousandth of their mean diagonal."""
    import numpy as np

    gram = tangents @ tangents.transpose(0, 2, 1)
    size = gram.shape[1]
    mean = np.trace(gram, axis1=1, axis2=2)[:, None, None] / size
    inverse: Floats = np.linalg.inv(gram + 1e-4 * mean * np.eye(size, dtype=np.float32))
    return inverse


def _left_over(rows: Floats, tangents: Floats, inverse: Floats) -> Floats:
    """The squared length of each row that its partner's tangents cannot explain, 0 to 1."""
    import numpy as np

    along = tangents @ rows[:, :, None]
    explained = (along.transpose(0, 2, 1) @ inverse @ along)[:, 0, 0]
    left: Floats = np.clip(1 - explained, 0, 1)
    return left
