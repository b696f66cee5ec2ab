"""Can a test answer what a workflow asks people?"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stepwell import ctx, workflow
from stepwell.errors import AnswerInvalid, NotAllowed, RunFailed
from stepwell.testing import Bench, CheckFailed


@dataclass
class Decision:
    granted: bool
    days: int = 0


@workflow
async def leave(name: str) -> str:
    try:
        decision = await ctx.ask(f"May {name} go?", Decision, who=["Ada", "Grace"], timeout="2d")
    except TimeoutError:
        return "nobody has decided"
    return f"{decision.days} days" if decision.granted else "no"


@workflow
async def several(names: list[str]) -> list[bool]:
    return list(await ctx.map(lambda name: ctx.ask(f"May {name} go?", bool), names))


def test_a_question_is_answered_by_whom_it_is_put_to() -> None:
    with Bench() as bench:
        run = bench.start(leave, "Alan")
        assert [question.prompt for question in bench.inbox("Ada")] == ["May Alan go?"]
        assert bench.inbox("Alan") == []
        with pytest.raises(NotAllowed):
            run.answer({"granted": True}, by="Alan")
        with pytest.raises(AnswerInvalid):
            run.answer({"granted": "perhaps"}, by="Ada")
        run.answer(Decision(True, 14), by="Ada")
        assert run.result() == "14 days"


def test_a_question_that_nobody_answers_times_out() -> None:
    with Bench() as bench:
        run = bench.start(leave, "Alan")
        assert run.waiting_for == ("input May Alan go?",)
        assert run.result() == "nobody has decided"


def test_one_of_several_questions_is_found_by_its_prompt() -> None:
    with Bench() as bench:
        run = bench.start(several, ["Alan", "Kurt"])
        assert len(run.questions) == 2
        with pytest.raises(CheckFailed, match="has 2 questions open"):
            run.answer(True)
        run.answer(False, prompt="Kurt")
        with pytest.raises(CheckFailed, match=r"has no question that says 'Kurt' open \(open: 'May Alan go\?'\)"):
            run.answer(True, prompt="Kurt")
        bench.crash()
        run.answer(True)
        assert run.result() == [True, False]


def test_a_question_is_taken_back() -> None:
    with Bench() as bench:
        run = bench.start(leave, "Alan")
        run.withdraw(by="Ada", reason="he has gone already")
        with pytest.raises(RunFailed, match="he has gone already"):
            run.result()
