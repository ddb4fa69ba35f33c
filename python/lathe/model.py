"""lathe.Model and lathe.load: prompts in, answers out."""
from __future__ import annotations

import collections.abc
import itertools
import operator
import os
import pathlib
import typing
import warnings

from . import _lathe
from .options import Options, refuse_unknown, with_signature
from .progress import Bar, is_watched
from .results import Completion, Stream

if typing.TYPE_CHECKING:
    import numpy.typing
    from typing_extensions import Unpack

    Message = dict[str, typing.Any]
    Prompt = str | typing.Sequence[int] | numpy.typing.NDArray[numpy.integer] | typing.Sequence[Message]

PROMPT = "expected a text, ids, a conversation (a list of messages), or for generate a list of these"


def _is_id(item: typing.Any) -> bool:
    try:
        return not isinstance(item, bool) and operator.index(item) is not None
    except TypeError:
        return False


def is_batch(prompt: typing.Any) -> bool:
    """Whether it is a list of prompts: texts, lists, arrays."""
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and all(
        isinstance(item, collections.abc.Sequence) or getattr(item, "ndim", 0) > 0 for item in prompt)


def _whole(name: str, value: typing.Any) -> int | None:
    """A whole number as int, or None."""
    if value is not None and not _is_id(value):
        raise TypeError(f"{name}: expected a whole number, found {value!r}")
    return None if value is None else operator.index(value)


def _positive(name: str, value: typing.Any) -> int:
    """A whole number from 1 on; 0, which stands for the default in the binding, for None."""
    number = _whole(name, value)
    if number is not None and not 1 <= number < 2**63:
        raise _lathe.Error(f"{name}: expected 1 to 2^63 - 1, found {number}")
    return number or 0


def _found(prompt: typing.Any) -> str:
    """What is wrong with a prompt of no known kind."""
    if not isinstance(prompt, (list, tuple)):
        return f"found a {type(prompt).__name__}"
    kinds = list(dict.fromkeys(type(item).__name__ for item in prompt))
    return f"found a list of {' and '.join(kinds)}"


class Model(_lathe.Model):
    """A language model. `lathe.load` makes one."""

    def _prompt_ids(self, prompt: typing.Any, options: dict[str, typing.Any]) -> typing.Any:
        conversation = isinstance(prompt, (list, tuple)) and len(prompt) > 0 and all(isinstance(m, dict) for m in prompt)
        variables = {"tools": options.pop("tools", None), **(options.pop("chat_template_kwargs", None) or {})}
        if conversation:
            return self.tokenizer.encode_chat(prompt, **variables)
        for name, value in variables.items():
            if value is not None:
                raise TypeError(f"{name}: the prompt is no conversation, so no chat template reads it")
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if isinstance(prompt, (list, tuple)) and not all(map(_is_id, prompt)):
            raise TypeError(f"prompt: {PROMPT}; {_found(prompt)}")
        if isinstance(prompt, (bytes, bytearray)) or not isinstance(prompt, collections.abc.Sequence) and not hasattr(prompt, "ndim"):
            raise TypeError(f"prompt: {PROMPT}; {_found(prompt)}")
        return prompt

    def _begin(self, method: str, prompt: typing.Any, options: dict[str, typing.Any]) -> Stream:
        refuse_unknown(method, options, Options.__annotations__)
        options = dict(options)
        most = options.pop("max_tokens", None)
        if most is not None:
            if options.get("max_new_tokens") is not None:
                raise TypeError(f"{method}(): max_tokens is another name of max_new_tokens; give one of them")
            options["max_new_tokens"] = most
        return Stream(self, self._prompt_ids(prompt, options), options)

    def _begin_each(self, prompts: typing.Sequence[typing.Any], options: dict[str, typing.Any]) -> list[Stream]:
        streams = []
        for number, prompt in enumerate(prompts):
            try:
                streams.append(self._begin("generate", prompt, options))
            except (TypeError, _lathe.Error) as problem:
                problem.args = (f"prompt {number} of the batch: {problem}",)
                raise
        return streams

    @typing.overload
    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Completion: ...

    @typing.overload
    def generate(self, prompt: typing.Sequence[Prompt], **options: Unpack[Options]) -> list[Completion]: ...

    @with_signature
    def generate(self, prompt, **options):
        """Answers a conversation (a list of {"role", "content"}) or continues a text or ids.

        A list of such prompts is a batch: all are computed together, and the answers come as a list. `help(lathe.Options)` says
        what the keywords mean; what is not given is the model's own default (generation_config.json).
        """
        if is_batch(prompt):
            return [stream.result() for stream in self._begin_each(prompt, options)]
        return self._begin("generate", prompt, options).result()

    @with_signature
    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """The same as an iterator over its events, as they come, for one prompt. Takes what `generate` takes."""
        if is_batch(prompt):
            raise TypeError("stream: expected one prompt, found a list of them; generate takes a batch")
        return self._begin("stream", prompt, options)

    def log_probabilities(self, tokens):
        """The natural log-probability of each token but the first, given those before it: (tokens - 1) float32.

        The forward is that of training, whose values generation's `logprobs` are. A list of sequences is computed together, and its
        arrays come as a list.
        """
        if not is_batch(tokens):
            return self._log_probabilities([tokens])
        flat = self._log_probabilities(list(tokens))
        ends = list(itertools.accumulate(len(sequence) - 1 for sequence in tokens))
        return [flat[begin:end] for begin, end in zip([0, *ends], ends)]

    def save(self, path: str | os.PathLike, dtype: str | None = "auto", *, quantize: str | None = None, **unknown: typing.Any) -> None:
        """Writes the model as a Hugging Face folder (new or empty), a .safetensors or a .gguf file.

        The weights of a model that was loaded with trainable=True are written as they are in memory, edited or not; those of
        others as the checkpoint has them. `dtype` ("float32", "bfloat16", "float16") narrows them, `quantize` ("q8_0", "q4_k", ...)
        makes the matrices of a .gguf file smaller. What the form cannot hold is a warning or a lathe.Error.
        """
        refuse_unknown("save", unknown, ["path", "dtype", "quantize"])
        for remark in self._save(path, "auto" if dtype is None else dtype, quantize):
            warnings.warn(remark, stacklevel=2)


def load(
    path: str | os.PathLike,
    dtype: str | None = "auto",
    *,
    quantize: str | None = None,
    trainable: bool = False,
    adapter: str | os.PathLike | None = None,
    context: int | None = None,
    kv_cache_dtype: str | None = None,
    kv_memory: int | None = None,
    threads: int | None = None,
    speculate: str | os.PathLike | None = None,
    progress: typing.Callable[[int, int], object] | bool | None = None,
    **unknown: typing.Any,
) -> Model:
    """Loads a model: a Hugging Face folder, a .safetensors, .bin or .gguf file, or the name of a model that is there.

    dtype           the arithmetic: "auto", "float32", "bfloat16"; "int8" or "int16" for quantised weights
    quantize        makes the matrices smaller on load: "q8_0", "q4_k", ...
    trainable       keeps the weights in float32, for `gradients` and `parameters`
    adapter         a folder in PEFT's form, whose changes are computed beside the weights
    context         longest sequence, in tokens; by default the model's limit
    kv_cache_dtype  "float32", "float16", "bfloat16" or "q8_0"; by default what dtype suggests
    kv_memory       bytes of the key-value cache; by default what a few sequences need
    threads         `set_threads`, for the whole process
    speculate       who guesses tokens ahead, which changes no answer: "ngram", or a smaller model with the same vocabulary
    progress        called with the bytes read and all bytes; None: a bar where somebody watches; False: nothing
    """
    refuse_unknown("load", unknown, ["path", "dtype", *load.__kwdefaults__])
    context, kv_memory, threads = _positive("context", context), _positive("kv_memory", kv_memory), _whole("threads", threads)
    if threads is not None:
        _lathe.set_threads(threads)
    bar = Bar(pathlib.PurePath(os.fsdecode(path)).name) if progress is True or progress is None and is_watched() else None
    try:
        return Model(path, "auto" if dtype is None else dtype, quantize=quantize, trainable=trainable, adapter=adapter, context=context,
                     kv_cache_dtype=kv_cache_dtype, kv_memory=kv_memory, speculate=speculate, progress=bar or progress or None)
    finally:
        if bar is not None:
            bar.close()
