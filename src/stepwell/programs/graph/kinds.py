"""How each kind of node does its work: as a step, in the turn itself, as a wait, as a child run, as a container."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from stepwell.authoring.registry import lack_of
from stepwell.expressions import logic
from stepwell.model import cloudevents
from stepwell.model.codec import content_hash
from stepwell.model.commands import StartWait
from stepwell.model.durations import micros
from stepwell.model.entries import NO_PAYLOAD, WaitKind
from stepwell.model.ids import StepPath, run_id
from stepwell.model.requests import EventSpec, InputSpec
from stepwell.nodes.parts.times import moment
from stepwell.nodes.protocol import Ask, NodeType, Outcome
from stepwell.programs.asks import Decoder, Pending, check_size
from stepwell.programs.graph import expanding
from stepwell.programs.graph.actions import action_of
from stepwell.programs.graph.containers import container_of
from stepwell.programs.graph.values import JSON, converted, encoded
from stepwell.programs.protocol import ChildRequest, Note, PublishEvent, SendSignal, StepRequest

if TYPE_CHECKING:
    from stepwell.programs.graph.firing import Firing

Settings = Any
"""An instance of the node type's `Settings`."""


def perform(firing: Firing) -> None:
    """Fill the settings in and do the node's work."""
    node = firing.node
    rendered = node.settings.render(firing.frame)
    kind = node.type.kind
    if kind == "task":
        _task(firing, cast("dict[str, Any]", rendered))
        return
    if kind == "action":
        converted(rendered, node.type.Settings, firing.path)  # what does not fit fails before an attempt is made
        _action(firing, node.type, {"settings": rendered})
        return
    _KINDS[kind](firing, node.type, converted(rendered, node.type.Settings, firing.path))


# -- steps --------------------------------------------------------------------------------------------------------


def _task(firing: Firing, settings: dict[str, Any]) -> None:
    program = firing.frame.program
    task = program.task_of(firing.node, settings["task"])
    if task is None:
        program.lacks(
            f"{lack_of(settings['task'])}node {firing.path} calls it; start the process with the module that has it "
            "(--tasks, or tasks=[…]) and resume"
        )
        return
    _step(firing, firing.path, task, encoded(settings.get("inputs") or {}, firing.path))


def _action(firing: Firing, kind: NodeType, given: dict[str, Any]) -> None:
    path = firing.path if not firing.phase else StepPath(firing.inside(firing.phase), firing.node.id, 1)
    names = firing.frame.program.secrets_in(encoded(given, path))
    data = encoded({**given, "secrets": names} if names else given, path)
    _step(firing, path, firing.frame.program.tuned(firing.node, action_of(kind)), data)


def _step(firing: Firing, path: StepPath, task: Any, data: msgspec.Raw) -> None:  # Any: a `Task`
    frame, node = firing.frame, firing.node
    key = ""
    if node.idempotency_key is not None:
        key = str(node.idempotency_key.render(frame))
    request = StepRequest(
        path=path,
        task=task,
        input=data,
        fingerprint=content_hash(bytes(data)),
        step="compensation" if frame.is_undoing else "task",
        key=key,
        extras=frame.program.extras_of(firing, data),
    )
    asks = frame.program.asks
    at: list[StepPath] = []

    def ended(value: object, error: BaseException | None) -> None:
        for path in at:
            firing.open.pop(path, None)
        if error is not None:
            firing.fail(error)
        else:
            _returned(firing, value)

    place = f"node {node.id} of the definition"
    found = asks.step(request, (path.name,), task.options.on_change, Pending(JSON, ended=ended), place)
    at.append(found)
    firing.open[found] = False


def _returned(firing: Firing, value: object) -> None:
    """A step has its output; an `Outcome` or an `Expand` says more than that."""
    try:
        marked = value.get("$stepwell") if isinstance(value, dict) else None
        if marked == "outcome":
            outcome = msgspec.convert(value, Outcome)
            if outcome.ask and not firing.frame.ending:
                _ask_first(firing, outcome)
            else:
                firing.succeed(outcome.output, (outcome.port,))
        elif marked == "expand" and not firing.frame.ending:
            expanding.expand(firing, cast("dict[str, Any]", value))
        else:
            firing.succeed(value)
    except Exception as error:
        firing.fail(error)


def _ask_first(firing: Firing, outcome: Outcome) -> None:
    """Put an action's questions; with the answers to all of them it runs again."""
    firing.phase += 1
    answers: dict[str, object] = {}
    left = dict.fromkeys(outcome.ask)

    def answered(key: str, value: object, error: BaseException | None) -> None:
        if error is not None:
            firing.fail(error)
            return
        answers[key] = value
        left.pop(key, None)
        if not left and not firing.is_over:
            settings = firing.node.settings.render(firing.frame)
            given = {
                "settings": settings,
                "answers": dict(sorted(answers.items())),
                "state": outcome.state,
                "step": str(firing.path),
            }
            _action(firing, firing.node.type, given)

    for key, question in outcome.ask.items():
        path = StepPath((*firing.inside(firing.phase), ("ask", 1)), key, 1)

        def ended(value: object, error: BaseException | None, key: str = key) -> None:
            answered(key, value, error)

        wait(firing, path, "input", question.prompt, None, _question(question), ended)


def _question(question: Ask) -> msgspec.Raw:
    form = msgspec.Raw(msgspec.json.encode({} if question.form is None else question.form))
    return msgspec.Raw(msgspec.json.encode(InputSpec(question.prompt, form, question.who)))


# -- in the turn itself -------------------------------------------------------------------------------------------


def _pure(firing: Firing, kind: NodeType, settings: Settings) -> None:
    routed = kind.evaluate(settings, firing.frame)
    program = firing.frame.program
    if kind.name == "set":
        for name, value in settings.values.items():
            program.set_variable(firing, name, value)
    elif kind.name == "respond":
        program.respond(firing.path, routed.output)
    elif kind.name == "log":
        line = cast("dict[str, Any]", routed.output)
        said = {**line.get("fields", {}), "message": line["message"], "level": line["level"]}
        program.say(Note("log", said, str(firing.path)))
    firing.passed(routed.output, routed.ports)


def _end(firing: Firing, kind: NodeType, settings: Settings) -> None:
    """End a body: this one, the loop's, or the run's own."""
    result = getattr(settings, "result", msgspec.UNSET)
    response = None if result is msgspec.UNSET else (result,)
    frame = firing.frame
    firing.passed(None if response is None else result, ())
    if kind.name == "break":
        frame.program.end_loop(frame)
    elif settings.ends_run:
        frame.program.end_run(response)
    else:
        frame.finish(response)


# -- waits --------------------------------------------------------------------------------------------------------


def wait(
    firing: Firing,
    path: StepPath,
    kind: WaitKind,
    name: str,
    due: int | None,
    spec: msgspec.Raw,
    ended: Callable[[object, BaseException | None], None],
    codec: Decoder | None = JSON,
) -> None:
    """Begin to wait, until `due` (microseconds) at the longest; `ended` hears of the outcome."""
    program = firing.frame.program
    at: list[StepPath] = []

    def over(value: object, error: BaseException | None) -> None:
        for one in at:
            firing.open.pop(one, None)
        if not firing.is_over:
            ended(value, error)

    request = StartWait(path=path, wait=kind, name=name, due=due, spec=spec)
    found = program.asks.wait(request, Pending(codec, ended=over), program.now)
    at.append(found)
    firing.open[found] = True


def _outcome(firing: Firing) -> Callable[[object, BaseException | None], None]:
    def ended(value: object, error: BaseException | None) -> None:
        if error is None:
            firing.succeed(value)
        else:
            firing.fail(error)

    return ended


def _wait(firing: Firing, kind: NodeType, settings: Settings) -> None:
    _WAITS[kind.name](firing, settings)


def _due(firing: Firing, timeout: object) -> int | None:
    given = timeout if timeout is not None else firing.node.limits.total or firing.node.limits.attempt
    if given is None:
        return None
    length = given if timeout is None else micros(cast("str", timeout), f"the timeout of {firing.node.id}")
    return firing.frame.program.now + cast("int", length)


def _timer(firing: Firing, settings: Settings) -> None:
    due = settings.due(firing.frame.program.now)
    wait(firing, firing.path, "timer", "", due, NO_PAYLOAD, lambda *_: firing.succeed(None), None)


def _signal(firing: Firing, settings: Settings) -> None:
    due = _due(firing, settings.timeout)
    wait(firing, firing.path, "signal", settings.signal, due, NO_PAYLOAD, _outcome(firing))


def event_spec(where: object, since: int) -> msgspec.Raw:
    """What a wait for an event says besides its topic."""
    return msgspec.Raw(msgspec.json.encode(EventSpec(where=logic.written(where), since=since)))


def _event(firing: Firing, settings: Settings) -> None:
    since = firing.frame.program.now if settings.transient else 0
    if settings.since is not None:
        since = moment(settings.since, "wait_event.since")
    spec = event_spec(settings.where, since)
    wait(firing, firing.path, "event", settings.event, _due(firing, settings.timeout), spec, _outcome(firing), EVENT)


class _Event:
    """Reads an event as plain data: `id`, `source`, `type`, `data`, `time`, `subject`."""

    def decode(self, data: msgspec.Raw) -> object:
        """The event."""
        found = cloudevents.read(bytes(data))
        return {
            "id": found.id,
            "source": found.source,
            "type": found.type,
            "data": msgspec.json.decode(found.payload),
            "time": found.time,
            "subject": found.subject or "",
        }


EVENT = _Event()


def _human(firing: Firing, settings: Settings) -> None:
    who = (settings.who,) if isinstance(settings.who, str) else tuple(settings.who)
    spec = InputSpec(
        prompt=settings.prompt,
        schema=msgspec.Raw(msgspec.json.encode({} if settings.form is None else settings.form)),
        who=tuple(dict.fromkeys(one for one in who if one)),
        quorum=settings.quorum or 0,
        agree=settings.agree,
        reminders=tuple(sorted(micros(one, "human.reminders") for one in settings.reminders)),
    )
    due = _due(firing, settings.timeout)
    data = msgspec.Raw(msgspec.json.encode(spec))
    wait(firing, firing.path, "input", settings.prompt, due, data, _outcome(firing))


_WAITS: dict[str, Callable[[Firing, Settings], None]] = {
    "wait": _timer,
    "wait_signal": _signal,
    "wait_event": _event,
    "human": _human,
}

# -- effects and children -----------------------------------------------------------------------------------------


def _effect(firing: Firing, kind: NodeType, settings: Settings) -> None:
    program = firing.frame.program
    if kind.name == "emit":
        data = encoded(settings.data, firing.path)
        if program.recorded.value(firing.path) is None:
            program.ask(PublishEvent(firing.path, settings.event, data, settings.subject, settings.transient))
        firing.succeed(None)
        return
    payload = encoded(settings.payload, firing.path)
    if program.recorded.value(firing.path) is None:
        targets = (settings.to,) if isinstance(settings.to, str) else tuple(settings.to)
        program.ask(SendSignal(firing.path, tuple(run_id(one) for one in targets), settings.signal, payload))
    firing.succeed(None)


def _child(firing: Firing, kind: NodeType, settings: Settings) -> None:
    program, path = firing.frame.program, firing.path
    workflow = program.workflow_of(settings.workflow, settings.version)
    if workflow is None:
        program.lacks(
            f"workflow {settings.workflow!r}, which node {path} starts, is not known here: deploy it, or register its "
            "function, and resume"
        )
        return
    options: dict[str, Any] = {"on_cancel": settings.on_cancel}
    if settings.id:
        options["id"] = settings.id
    workflow = workflow.with_options(**options)
    data = encoded(settings.inputs, path)
    check_size(data, "the input of child run", path)
    if not settings.wait:
        path = StepPath(path.scope, f"start:{path.name}", path.occurrence)
    request = ChildRequest(
        path=path,
        workflow=workflow,
        input=data,
        fingerprint=content_hash(bytes(data)),
        run_id=run_id(settings.id) if settings.id else "",
        awaited=settings.wait,
        new_identity=False,
    ).named(program.identity.run_id)
    if not settings.wait:
        if program.recorded.value(path) is None:
            program.ask(request)
        firing.succeed({"run_id": request.run_id})
        return
    at: list[StepPath] = []

    def ended(value: object, error: BaseException | None) -> None:
        for one in at:
            firing.open.pop(one, None)
        if not firing.outlasted():
            _outcome(firing)(value, error)

    place = f"node {firing.node.id} of the definition"
    found = program.asks.step(request, (path.name,), "pause", Pending(JSON, ended=ended), place)
    at.append(found)
    firing.open[found] = False
    if settings.on_cancel == "wait":
        firing.outlasts = found
    if firing.node.limits.total is not None and not firing.is_over:

        def rang(_: object, error: BaseException | None) -> None:
            late = TimeoutError(f"child run {request.run_id} has not ended in time")
            firing.outlast(lambda: firing.fail(late))

        program.timer(firing, firing.beside("timeout"), firing.node.limits.total, rang)


def _container(firing: Firing, kind: NodeType, settings: Settings) -> None:
    firing.container = container_of(kind.name)(firing, settings)
    firing.container.begin()


_KINDS: dict[str, Callable[[Firing, NodeType, Settings], None]] = {
    "pure": _pure,
    "end": _end,
    "wait": _wait,
    "effect": _effect,
    "child": _child,
    "container": _container,
}
