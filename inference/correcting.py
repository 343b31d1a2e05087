"""A model whose tool call is broken is asked once more: it reads its own call and what was wrong with it.

Above the engines, and the same for each. Broken is a call that cannot be read, of a tool that was not offered, or with
arguments that do not fit the tool's schema.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from inference.base import ChatMessage, Delta, Engine, Finish, GenRequest, Reply, Result, Timings, ToolCall, Usage
from inference.engines.replies import Roster, TrackedReply
from inference.engines.tool_schema import misfits
from inference.engines.tool_splitter import offered, parameters_of
from inference.errors import FILTERED, InferenceError, ShuttingDown

logger = logging.getLogger(__name__)

MOST_MISFITS: Final = 5  # told of one call
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}", re.ASCII)  # services refuse a prompt with other ones


def submit(engine: Engine, request: GenRequest) -> Reply:
    """As ``Engine.submit``. Without tools a call is for the caller to refuse: nothing of it could be corrected."""
    return CorrectedReply(engine, request) if offered(request) else engine.submit(request)


class CorrectedReply(TrackedReply):
    """One answer of one or two tries, within the limits of one: tokens, deadline, cancelling. Usage is that of both.

    Text is given out as it is written, that of a second try behind that of the first. Calls come at the end.
    """

    def __init__(self, engine: Engine, request: GenRequest) -> None:
        super().__init__(request, Roster())
        self._engine = engine
        self._under_way = engine.submit(request)

    def wake(self) -> None:
        self._under_way.cancel()

    def deltas(self) -> Generator[Delta, None, None]:
        result = yield from self._told(self._under_way)
        if request := self._second_request(result):
            logger.info("a tool call was broken, the model is asked once more", extra={"request_id": self.request.id})
            result = _better(result, (yield from self._second(request)))
        for call in result.tool_calls:
            yield Delta(kind="tool", call=call)
        yield Delta(finish=result.finish, error=result.error, is_too_long=result.is_too_long)

    def _told(self, reply: Reply) -> Generator[Delta, None, Result]:
        """Give out the text, in a paragraph of its own if there was some before; the calls are in the result."""
        gap = "\n\n" if "".join(self._answer).strip() else ""
        for delta in reply:
            text = delta.text
            if gap and delta.kind == "answer":
                text = f"{gap}{text.lstrip()}" if text.strip() else ""
                gap = "" if text else gap
            if text:
                yield Delta(text, delta.kind)
        result = reply.result()
        self.usage += result.usage
        return result

    def _second_request(self, result: Result) -> GenRequest | None:
        """None where nothing is wrong, or no room or time is left."""
        faults = _faults(result.tool_calls, self.request)
        sampling = self.request.sampling
        room = sampling.max_new_tokens - result.usage.completion_tokens
        if result.finish != "tool_calls" or not any(faults) or room < 1 or self.ending():
            return None
        return replace(
            self.request,
            id=f"{self.request.id}.again",
            messages=(*self.request.messages, *_correction(result, faults, self.request)),
            sampling=replace(sampling, max_new_tokens=room),
            deadline_s=self.remaining_s(),
        )

    def _second(self, request: GenRequest) -> Generator[Delta, None, Result]:
        try:
            self._under_way = self._engine.submit(request)
        except ShuttingDown:
            return _ended("shutdown")
        except InferenceError as error:
            return _ended("error", str(error))
        if self.is_cancelled:  # meanwhile: the first one was told
            self._under_way.cancel()
        return (yield from self._told(self._under_way))


def _ended(finish: Finish, error: str = "") -> Result:
    return Result("", Usage(), finish, Timings(), error)


def _better(first: Result, second: Result) -> Result:
    """The second, unless it came to nothing: then the answer ends as it would have without it."""
    if second.finish in ("cancelled", "shutdown") or second.error == FILTERED:
        return second
    problem = next((call.problem for call in second.tool_calls if call.problem), "")
    if second.finish in ("stop", "tool_calls") and not problem:
        return second
    why = f"; asked again: {problem or second.error or second.finish}"
    calls = (replace(call, problem=call.problem and call.problem + why) for call in first.tool_calls)
    return replace(first, tool_calls=tuple(calls))


# -- what was wrong, and how the model is told --


def _faults(calls: Sequence[ToolCall], request: GenRequest) -> list[str]:
    """What is wrong with each; empty where nothing is."""
    parameters = parameters_of(offered(request))
    return [call.problem or _misfits(call, parameters[call.name]) for call in calls]


def _misfits(call: ToolCall, schema: Mapping[str, Any]) -> str:
    return "; ".join(islice(misfits(json.loads(call.arguments), schema), MOST_MISFITS))


def _correction(result: Result, faults: Sequence[str], request: GenRequest) -> tuple[ChatMessage, ...]:
    """As results of the calls where a prompt can hold them, else in plain words."""
    calls = result.tool_calls
    names = ", ".join(parameters_of(offered(request)))
    if all(_NAME.fullmatch(call.name) and not call.written for call in calls):
        told = [_as_result(fault, names) for fault in faults]
        results = [ChatMessage("tool", text, call_id=call.id) for call, text in zip(calls, told, strict=True)]
        return (ChatMessage("assistant", result.text, calls=calls), *results)
    written = [result.text.strip(), *map(_as_text, calls)]
    said = "\n".join(filter(None, written)) or "(an empty tool call)"
    wrong = "; ".join(filter(None, faults))
    return ChatMessage("assistant", said), ChatMessage("user", f"No tool was called: {wrong}. {_wish(names)}")


def _as_result(fault: str, names: str) -> str:
    if not fault:
        return "Not called, because another call beside it was wrong. Call it again together with the corrected one."
    return f"Error, not called: {fault}. {_wish(names)}"


def _wish(names: str) -> str:
    return (
        f"These tools can be called: {names}. Write the whole call again, in the form that you were told, with"
        " arguments that fit the tool's schema. Do not repeat other words."
    )


def _as_text(call: ToolCall) -> str:
    if call.written or not call.name:
        return call.written
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments}}}'
