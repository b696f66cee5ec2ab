"""The node type `end`: the run, or the body that it stands in, is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from stepwell.nodes.protocol import NodeType, Routed, View


class EndSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ends, and with what result.

    Attributes:
        kind: `run` ends the run; `body` the innermost body only: this iteration of a loop, this item of a map, this
            branch, this scope. `scope` is the same as `body`.
        result: the result of what ends; left out, it is what it would be without this node.
    """

    kind: Literal["run", "body", "scope"] = "run"
    result: Any = msgspec.UNSET  # Any: JSON

    @property
    def ends_run(self) -> bool:
        """Whether the whole run ends, not only a body."""
        return self.kind == "run"


class EndNode(NodeType):
    """Ends the run as completed, or only the innermost body; what else is under way there is cancelled.

    A run ends by itself when nothing is left to do: this node is for ending it earlier. In a loop, `kind: body` goes
    on with the next iteration; `break` ends the loop.

    Ports: none.
    Output: the result.

    Example:
        ```yaml
        known: {condition: "{{ lookup.found }}", needs: lookup}
        stop:  {end: {kind: run, result: "{{ lookup }}"}, needs: "known:true"}
        make:  {task: make, needs: "known:false"}
        ```
    """

    name = "end"
    summary = "End the run, or the innermost body."
    kind = "end"
    Settings = EndSettings
    main = "kind"

    def ports_of(self, settings: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
        """None: nothing follows."""
        return ()

    def evaluate(self, settings: EndSettings, view: View) -> Routed:
        """The result, and no port; the engine ends what `kind` says."""
        return Routed(None if settings.result is msgspec.UNSET else settings.result, ())


TYPE = EndNode()
