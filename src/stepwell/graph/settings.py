"""Do a node's settings fit its type, and a task's inputs its signature? As far as that can be told before a run.

A setting with a template in it is known when a run renders it, and is checked then.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.graph.definition import Json, NodeDef
from stepwell.graph.problems import Place
from stepwell.graph.saying import Say
from stepwell.graph.tasks import Parameter, TaskInfo, Tasks
from stepwell.graph.typed import has_template
from stepwell.model.foreign import ENCODE
from stepwell.model.refusals import hint_text, refused_read
from stepwell.model.values import Form, form_of
from stepwell.nodes.protocol import NodeType


class SettingsCheck:
    """Checks settings; looks each node type over once. `tasks` is None when nobody knows which there are."""

    def __init__(self, tasks: Tasks | None, say: Say) -> None:
        self.tasks = tasks
        self.say = say
        self._fields: dict[str, dict[str, msgspec.structs.FieldInfo]] = {}
        self._infos: dict[str, TaskInfo | None] = {}

    def check(self, node: NodeDef, type: NodeType) -> None:
        """Say what is wrong with a node's settings."""
        fields = self._fields.get(type.name)
        if fields is None:
            found = msgspec.structs.fields(type.Settings)
            fields = self._fields[type.name] = {field.encode_name: field for field in found}
        faulty: set[str] = set()
        for name, value in node.settings.items():
            if name in fields:
                if name not in type.raw and not self._fits(node, type, fields[name], value):
                    faulty.add(name)
            elif name not in type.bodies:
                hint = self.say.meant_or_listed(name, list(fields), "it has")
                message = f"{node.id}: {type.name} has no setting {name!r}"
                self.say.error_once("unknown-setting", node.at(f"settings.{name}"), message, hint)
        for name, field in fields.items():
            if field.required and name not in node.settings:
                message = f"{node.id}: {type.name} needs the setting {name!r}"
                self.say.error_once("missing-setting", node.place, message)
                faulty.add(name)
        self._by_type(node, type, faulty)
        if type.kind == "task":
            self._task(node)

    def _fits(self, node: NodeDef, type: NodeType, field: msgspec.structs.FieldInfo, value: Json) -> bool:
        if has_template(value):
            return True
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$")
            message = f"{node.id}: the setting {field.encode_name + path.rstrip('`')!r} of {type.name}: {_said(text)}"
            self.say.error_once("wrong-setting", node.at(f"settings.{field.encode_name}"), message)
            return False
        return True

    def _by_type(self, node: NodeDef, type: NodeType, faulty: set[str]) -> None:
        """What the type itself finds, unless that setting is known to be wrong."""

        def say(setting: str, message: str) -> None:
            name = setting.partition(".")[0].partition("[")[0]
            if name not in faulty:
                path = setting.replace("[", ".").replace("]", "")
                place = node.at(f"settings.{path}")
                self.say.error_once("wrong-setting", place, f"{node.id}, {setting}: {message}")

        try:
            type.check(node.settings, say)
        except Exception as error:  # code of others; with settings of the wrong shape it may fail in any way
            if not faulty:
                message = f"{node.id}: its settings cannot be checked: {error.__class__.__name__}: {error}"
                self.say.error("wrong-setting", node.at("settings"), message)

    # -- tasks ------------------------------------------------------------------------------------------------------

    def _task(self, node: NodeDef) -> None:
        name, inputs = node.settings.get("task"), node.settings.get("inputs", {})
        if not isinstance(name, str) or has_template(name) or not isinstance(inputs, dict):
            return
        place = node.at("settings.task")
        if self.tasks is None:
            if name not in self._infos:
                self._infos[name] = None
                message = f"{node.id}: task {name!r} cannot be checked: no tasks are known"
                hint = "give the modules that define the tasks to have this checked"
                self.say.warning("unknown-task", place, message, hint)
            return
        if name not in self._infos:
            self._infos[name] = self.tasks.get(name)
        info = self._infos[name]
        if info is None:
            names = sorted(self.tasks.names())
            hint = self.say.meant_or_listed(name, names, "there are")
            hint = hint or "give the module that has it (--tasks, or tasks=[…])"
            self.say.error("unknown-task", place, f"{node.id}: there is no task {name!r}", hint)
            return
        self._inputs(node, info, inputs)

    def _inputs(self, node: NodeDef, info: TaskInfo, inputs: dict[str, Json]) -> None:
        known = {parameter.name: parameter for parameter in info.parameters}
        for name, value in inputs.items():
            place = node.at(f"settings.inputs.{name}")
            if name in known:
                if not has_template(value):
                    self._constant(node, info, known[name], value, place)
            elif not info.has_var_keyword:
                free = [one for one in known if one not in inputs]
                hint = self.say.meant(name, free) or (f"it takes: {', '.join(known)}" if known else "it takes nothing")
                self.say.error("unknown-input", place, f"{node.id}: task {info.name} takes no {name!r}", hint)
        needed = [one.name for one in info.parameters if one.required and one.kind != "rest"]
        missing = ", ".join(repr(name) for name in needed if name not in inputs)
        if missing:
            message = f"{node.id}: task {info.name} needs {missing}"
            self.say.error("missing-input", node.at("settings.inputs"), message, "give it under `inputs`")

    def _constant(self, node: NodeDef, info: TaskInfo, parameter: Parameter, value: Json, place: Place) -> None:
        hint = parameter.hint
        if hint is Any:
            return
        data = ENCODE(value)
        form: Form | None = None
        try:
            form = form_of(hint, parameter.name)
            form.read(data)
        except Exception as error:  # a type's own code may refuse a value in any way
            if form is None:
                return  # the hint itself is none that can be read: the task says so when it is called
            what, path = refused_read(form, data, error)
            at = "" if path == "$" else f" at {path}"
            message = f"{node.id}: {parameter.name!r} of task {info.name}{at}: {what}"
            self.say.error("wrong-input", place, message, f"it is declared `{hint_text(hint)}`")


def _said(text: str) -> str:
    return text[:1].lower() + text[1:].replace(", got ", ", found ")
