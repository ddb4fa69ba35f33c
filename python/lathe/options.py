"""The keywords of `generate` and `stream`: those about the answer as modules/generate/request_options.h lists them."""
from __future__ import annotations

import difflib
import inspect
import typing

from . import _lathe

NOT_HERE = "num_sequences"  # an answer is one completion


class Options(typing.TypedDict, total=False):
    """The keywords of `Model.generate` and `Model.stream`. What is not given, or None, is the model's own default.

    max_tokens            another name of max_new_tokens
    tools                 what the chat template is told of tools
    chat_template_kwargs  its further variables
    """

    max_new_tokens: int | None
    max_tokens: int | None
    greedy: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: str | typing.Sequence[str] | None
    json_schema: dict[str, typing.Any] | str | None
    ignore_eos: bool | None
    skip_special_tokens: bool | None
    logprobs: int | None
    tools: typing.Sequence[dict[str, typing.Any]] | None
    chat_template_kwargs: dict[str, typing.Any] | None


Options.__doc__ += "".join(f"{name:20}  {meaning}\n    " for name, _, meaning in _lathe._request_options() if name != NOT_HERE)


def refuse_unknown(function: str, given: typing.Iterable[str], known: typing.Iterable[str]) -> None:
    """TypeError for the first keyword that is not known, with the nearest that is."""
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise TypeError(f"{function}() has no keyword {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def with_signature(method: typing.Callable) -> typing.Callable:
    """Shows the keywords of Options in place of **options, to `help` and to editors."""
    signature = inspect.signature(method)
    positional = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=getattr(annotation, "__forward_arg__", annotation))
                for name, annotation in Options.__annotations__.items()]
    method.__signature__ = signature.replace(parameters=positional + keywords)
    return method
