"""Lathe: language models from one C++ definition, to load, look inside, differentiate and generate with.

    import lathe

    model = lathe.load("models/SmolLM2-135M-Instruct.Q4_1.gguf", "float32")
    print(model.generate([{"role": "user", "content": "What is the capital of France?"}]))

Arrays share memory with the library where their layout allows it, the interpreter is free while the library computes,
and what goes wrong is a `lathe.Error` whose `hint` says what to do. `python -m lathe.reference MODEL_DIR` holds a
checkpoint against transformers, operation by operation.
"""
import os as _os

import numpy as _numpy  # noqa: F401  results are its arrays, of whatever thread asks for the first one

from ._lathe import Config, Error, Tokenizer, __version__, instruction_set, load_plugin, set_threads
from .model import Model, load
from .options import Options
from .results import Completion, GenerationEvent, Stream, TokenLogprobs
from .trainer import Trainer

for _file in filter(None, _os.environ.get("LATHE_PLUGINS", "").split(":")):
    load_plugin(_file)

__all__ = [
    "Completion",
    "Config",
    "Error",
    "GenerationEvent",
    "Model",
    "Options",
    "Stream",
    "TokenLogprobs",
    "Tokenizer",
    "Trainer",
    "__version__",
    "instruction_set",
    "load",
    "load_plugin",
    "set_threads",
]
