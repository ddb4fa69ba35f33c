"""lathe.Trainer: training with a loop, data and a loss of one's own."""
from __future__ import annotations

import collections.abc
import json
import typing

import numpy as np

from . import _lathe
from .model import Model, is_batch

if typing.TYPE_CHECKING:
    import numpy.typing

    Tokens = typing.Sequence[int] | numpy.typing.NDArray[numpy.integer]
    Weights = typing.Sequence[float] | numpy.typing.NDArray[numpy.floating]


def flat_weights(weights: typing.Sequence[Weights], sequences: typing.Sequence[Tokens]) -> numpy.typing.NDArray[numpy.float32]:
    """The weights of all sequences, one after another, checked."""
    if not isinstance(weights, (list, tuple)) or len(weights) != len(sequences):
        raise TypeError(f"weights: expected a list of {len(sequences)}, one for each sequence")
    arrays = [np.asarray(w) for w in weights]
    for number, (array, tokens) in enumerate(zip(arrays, sequences)):
        if array.dtype.kind not in "fiu":
            raise TypeError(f"weights: expected numbers, found an array of {array.dtype} for sequence {number}")
        if array.shape != (len(tokens) - 1,):
            raise _lathe.Error(f"weights: expected the shape ({len(tokens) - 1},) for sequence {number}, one for each of its {len(tokens)} "
                               f"tokens but the first; found {array.shape}")
        with np.errstate(over="ignore"):
            wrong = np.flatnonzero(~np.isfinite(array.astype(np.float32)))
        if len(wrong) > 0:
            raise _lathe.Error(f"weights: number {wrong[0]} of sequence {number} is {array[wrong[0]]}")
    return np.concatenate(arrays).astype(np.float32)


class Trainer(_lathe.Trainer):
    """Trains the weights of a model that was loaded with trainable=True, or an adapter beside frozen ones; one trainer a model.

        trainer = lathe.Trainer(model, learning_rate=1e-3)
        loss = trainer.backward(tokens)  # as often as memory asks for: gradients add up
        trainer.step()

    `model` is the same object all along: `generate`, `logits` and `save` use the weights as they are after the last step, and what the
    prefix cache held of earlier ones is never used again.
    """

    def __init__(self, model: Model, *, optimizer: str = "adamw", learning_rate: float = 3e-4, clip: float = 1.0,
                 adapter: typing.Mapping[str, typing.Any] | None = None, dropout: float = 0.0, dtype: str = "float32", recompute: str = "none",
                 router_balance: float = 0.0, seed: int = 1337, **settings: typing.Any):
        """`optimizer`: "adamw", "sgd" or "muon"; `clip`: the most that the norm of a step's gradients may be, 0 for any. `settings` are the
        other keys of a recipe's section `optimizer` (docs/training.md): beta1, beta2, epsilon, weight_decay, momentum, states, ...

        `adapter`, the keys of a recipe's section: {"rank": 8, "alpha": 16, "targets": "all-linear"} gives the model a change of low rank, trains
        that alone, and leaves the weights as they were loaded, packed in 4 bits too; `Model.save` then writes it in PEFT's form. `dropout`;
        `dtype`: "bfloat16" for products of rounded values; `recompute`: "block" computes activations again in the backward pass;
        `router_balance`: the factor of the loss that balances the experts of a mixture; `seed`: of dropout, an adapter's values and states of 8 bits.
        All are those of `lathe train`.
        """
        if not isinstance(model, Model):
            raise TypeError(f"Trainer: expected a lathe.Model, found a {type(model).__name__}")
        values = {"optimizer.name": optimizer, "optimizer.learning_rate": learning_rate, "training.clip": clip, "model.dropout": dropout,
                  "training.dtype": dtype, "training.recompute": recompute, "training.router_balance": router_balance, "training.seed": seed,
                  **{f"optimizer.{key}": value for key, value in settings.items()}}
        if adapter is not None:
            if not isinstance(adapter, collections.abc.Mapping):
                raise TypeError(f"adapter: expected the keys of a recipe's section, {{\"rank\": 8, ...}}; found a {type(adapter).__name__}")
            values |= {f"adapter.{key}": value for key, value in {"rank": 8, **adapter}.items()}
        as_number = lambda value: value.item()  # noqa: E731  NumPy's numbers
        super().__init__(model, [f"{key}={json.dumps(value, default=as_number)}" for key, value in values.items()])

    def backward(self, tokens: Tokens | typing.Sequence[Tokens], weights: Weights | typing.Sequence[Weights] | None = None) -> float:
        """The loss - sum_i weights[i] log p(tokens[i + 1] | tokens[: i + 1]), whose gradient is added to what earlier calls left.

        There is a weight for each token but the first, 0 for what is not learnt (a prompt): of any sign, finite, read as float32. Without
        weights the loss is the mean over these tokens, next-token cross-entropy. For a list of sequences, which are computed
        together and do not see each other, there is a list of weights. `router_balance` adds its part to the gradient, not to this loss.
        """
        batch = is_batch(tokens)
        sequences = list(tokens) if batch else [tokens]
        if weights is not None:
            weights = flat_weights(weights if batch else [weights], sequences)
        return self._backward(sequences, weights)

    def step(self, learning_rate: float | None = None) -> float:
        """One step of the optimizer; returns the norm of the gradients before clipping. They are zero afterwards.

        `learning_rate` takes the place of the trainer's own in this step: a schedule is the caller's. Where a gradient is not finite,
        there is no step but a lathe.Error that names its tensor.
        """
        return self._step(learning_rate)

    def __repr__(self) -> str:
        return f"Trainer({self.steps} steps)"
