"""What generation gives back."""
from __future__ import annotations

import dataclasses

from . import _lathe


@dataclasses.dataclass(frozen=True)
class TokenLogprobs:
    """Natural log-probabilities of one step, before penalties and temperature."""

    token: int  #: the id that was chosen
    logprob: float  #: its log-probability
    top: list[tuple[int, float]]  #: the most probable (id, log-probability), descending


@dataclasses.dataclass(frozen=True)
class Completion:
    """A finished answer; `str` of it is its text."""

    tokens: list[int]  #: the new ids; a stop token that ended it is the last of them
    text: str | None  #: their text without the stop; None where the model has no tokenizer
    finish_reason: str  #: "stop", "length" or "cancelled"
    prompt_tokens: int  #: tokens of the prompt
    cached_tokens: int  #: of these, how many were in the cache already
    logprobs: list[TokenLogprobs]  #: one a token; empty where none were asked for
    seed: int  #: the request's, or the one that was chosen for it

    def __str__(self) -> str:
        return self.text or ""

    @classmethod
    def of(cls, fields: tuple) -> Completion:
        *head, logprobs, seed = fields
        return cls(*head, [TokenLogprobs(*step) for step in logprobs], seed)


@dataclasses.dataclass(frozen=True)
class GenerationEvent:
    """A new token, the end of an answer, or both."""

    token: int | None  #: its id; None where a cancellation ends the answer
    text: str  #: whole characters; empty while they may begin a stop text
    logprobs: TokenLogprobs | None  #: where they were asked for
    completion: Completion | None  #: on the last event

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, fields: tuple) -> GenerationEvent:
        token, text, logprobs, completion = fields
        return cls(token, text, logprobs and TokenLogprobs(*logprobs), completion and Completion.of(completion))


class Stream(_lathe.Stream):
    """An iterator over the events of one answer. `model.stream` makes one.

    Streams of one model that are open together are computed together, and each gives what it would give alone. In a `with` block it
    is closed at the end.
    """

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> GenerationEvent:
        return GenerationEvent.of(self._next())

    def result(self) -> Completion:
        """Runs to the end and returns the completion."""
        return Completion.of(self._result())

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "Stream()"
