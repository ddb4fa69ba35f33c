"""transformers under the names of Lathe's taps (docs/shapes.md).

A model of transformers is watched through hooks: on a module's output, or on its input where that is what the tap shows
(`mlp.hidden` is what goes into `down_proj`). All taps are compared as (tokens, features).

With `forced`, each tapped value is replaced by Lathe's as soon as it is recorded. What is recorded is then what the
reference's operation makes of *Lathe's* inputs, so that an error shows at the operation that makes it and nowhere after.
"""
import contextlib
import dataclasses
import sys
import typing

import numpy as np
import torch

LLAMA = {
    "input_layernorm": "input_layernorm",
    "self_attn.q": "self_attn.q_proj",
    "self_attn.k": "self_attn.k_proj",
    "self_attn.v": "self_attn.v_proj",
    "self_attn.q_norm": "self_attn.q_norm",
    "self_attn.k_norm": "self_attn.k_norm",
    "self_attn.heads": "<self_attn.o_proj",
    "self_attn": "self_attn.o_proj",
    "post_attention_layernorm": "post_attention_layernorm",
    "pre_feedforward_layernorm": "pre_feedforward_layernorm",
    "mlp.router_logits": "mlp.gate[0]",
    "mlp.expert_weights": "mlp.gate[1]",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.hidden": "<mlp.down_proj",
    "mlp": "mlp.down_proj|mlp",
    "post_feedforward_layernorm": "post_feedforward_layernorm",
    "output": "",
}
# By model_type: where the table of embeddings, the blocks and the last norm are, and what a block's taps are called there. A path
# that a model lacks is passed over. "<": the module's input; "^": heads before tokens; "[1]": the second of several outputs.
NAMES = {
    "gpt2": ("transformer", "drop", "h", "ln_f", {
        "input_layernorm": "ln_1", "self_attn.qkv": "attn.c_attn", "self_attn.heads": "<attn.c_proj", "self_attn": "attn.c_proj",
        "post_attention_layernorm": "ln_2", "mlp.up": "mlp.c_fc", "mlp.hidden": "<mlp.c_proj", "mlp": "mlp", "output": ""}),
    "gpt_neox": ("gpt_neox", "embed_in", "layers", "final_layer_norm", {
        "input_layernorm": "input_layernorm", "self_attn.qkv": "attention.query_key_value", "self_attn.heads": "<attention.dense",
        "self_attn": "attention.dense", "post_attention_layernorm": "post_attention_layernorm", "mlp.up": "mlp.dense_h_to_4h",
        "mlp.hidden": "<mlp.dense_4h_to_h", "mlp": "mlp", "output": ""}),
    "falcon": ("transformer", "word_embeddings", "h", "ln_f", {
        "input_layernorm": "input_layernorm|ln_attn", "self_attn.qkv": "self_attention.query_key_value",
        "self_attn.heads": "<self_attention.dense", "self_attn": "self_attention.dense",
        "post_attention_layernorm": "post_attention_layernorm|ln_mlp", "mlp.up": "mlp.dense_h_to_4h",
        "mlp.hidden": "<mlp.dense_4h_to_h", "mlp": "mlp", "output": ""}),
    "mpt": ("transformer", "wte", "blocks", "norm_f", {
        "input_layernorm": "norm_1", "self_attn.qkv": "attn.Wqkv", "self_attn.heads": "<attn.out_proj", "self_attn": "attn.out_proj",
        "post_attention_layernorm": "norm_2", "mlp.up": "ffn.up_proj", "mlp.hidden": "<ffn.down_proj", "mlp": "ffn.down_proj",
        "output": ""}),
    "gemma3_text": ("model", "embed_tokens", "layers", "norm", {
        **LLAMA, "self_attn.q_norm": "^self_attn.q_norm", "self_attn.k_norm": "^self_attn.k_norm"}),
    "phi3": ("model", "embed_tokens", "layers", "norm", {
        "self_attn.qkv": "self_attn.qkv_proj", "mlp.gate_up": "mlp.gate_up_proj", **LLAMA}),
    # Its q and k are tapped after the norm of the whole projection.
    "olmo2": ("model", "embed_tokens", "layers", "norm", {
        **LLAMA, "self_attn.q": "self_attn.q_norm", "self_attn.k": "self_attn.k_norm", "self_attn.q_norm": "-", "self_attn.k_norm": "-"}),
    # It scales its embeddings outside of their module.
    "granite": ("model", "<layers.0", "layers", "norm", LLAMA),
}
DEFAULT = ("model", "embed_tokens", "layers", "norm", LLAMA)


@dataclasses.dataclass
class Heads:
    """How many heads there are, how wide, and how much of each is rotated."""

    query: int
    key_value: int
    width: int
    rotary: int = 0

    @staticmethod
    def of(config):
        query = config.num_attention_heads
        key_value = getattr(config, "num_key_value_heads", None) or query
        if config.model_type == "falcon":
            key_value = config.num_kv_heads if config.new_decoder_architecture else 1 if config.multi_query else query
        return Heads(query, key_value, getattr(config, "head_dim", None) or config.hidden_size // query)

    def fused_columns(self, config):
        """{part: columns} of a projection that holds q, k and v: one after another, or grouped by key-value head."""
        d = self.width
        if config.model_type in ("gpt2", "mpt", "phi3"):
            q, k, v = np.split(np.arange((self.query + 2 * self.key_value) * d), [self.query * d, (self.query + self.key_value) * d])
            return {"q": q, "k": k, "v": v}
        groups = np.arange((self.query + 2 * self.key_value) * d).reshape(self.key_value, -1, d)
        return {"q": groups[:, :-2].reshape(-1), "k": groups[:, -2].reshape(-1), "v": groups[:, -1].reshape(-1)}


@dataclasses.dataclass
class Record:
    """One tapped operation of a run: what it read and what it made of it."""

    value: np.ndarray  # (tokens, features)
    module: typing.Optional[torch.nn.Module] = None
    input: typing.Optional[torch.Tensor] = None  # the module's first argument
    columns: typing.Optional[np.ndarray] = None  # of a fused projection
    output: typing.Optional[torch.Tensor] = None  # what went on from here: Lathe's where it was forced
    rotate: typing.Optional[typing.Callable] = None  # rotate(x, cos, sin): (1, H, N, D) to the same
    angles: typing.Optional[tuple] = None  # cos and sin, (1, N, D)


@dataclasses.dataclass
class Site:
    module: torch.nn.Module
    side: str  # "input" or "output"
    element: int  # of several outputs
    heads_first: bool
    parts: dict  # tap: columns, or None for all

    def read(self, x):
        x = x.detach().transpose(1, 2) if self.heads_first else x.detach()
        return x if x.dim() == 2 else x.reshape(x.shape[0] * x.shape[1], -1)

    def write(self, flat, like):
        if self.heads_first:
            return flat.reshape(like.transpose(1, 2).shape).transpose(1, 2)
        return flat.reshape(like.shape)


def resolve(root, path):
    for name in path.split(".") if path else []:
        root = getattr(root, name, None)
    return root


class Reference:
    """A model of transformers with Lathe's names on its operations."""

    def __init__(self, model):
        self.model = model.eval()
        self.config = model.config.get_text_config()
        self.heads = Heads.of(self.config)
        self.clip = getattr(getattr(self.config, "attn_config", None), "clip_qkv", None)  # MPT clamps what its projection gives
        body, embed, layers, norm, names = NAMES.get(self.config.model_type, DEFAULT)
        body = resolve(model, body)
        if body is None or resolve(body, layers) is None:
            raise ValueError(f"{type(model).__name__}: expected its blocks at .{layers}; python/lathe/reference/taps.py lists the families")
        body = getattr(body, "language_model", body)
        side = "input" if embed.startswith("<") else "output"
        self.sites = [Site(resolve(body, embed.lstrip("<")), side, 0, False, {"model.embed_tokens": None})]
        self.attentions = {}  # module: tap prefix
        for index, layer in enumerate(resolve(body, layers)):
            for tap, path in names.items():
                self.add_site(layer, f"model.layers.{index}.", tap, path)
        self.sites.append(Site(resolve(body, norm), "output", 0, False, {"model.norm": None}))

    def add_site(self, layer, prefix, tap, paths):
        for path in paths.split("|"):
            marks, path = path[:1] if path[:1] in "<^-" else "", path.lstrip("<^")
            element = int(path[-2]) if path.endswith("]") else 0
            several = path.endswith("]")
            module = resolve(layer, path.split("[")[0])
            if module is None or marks == "-" or (several and not hasattr(layer.mlp, "experts")):
                continue
            parts = {prefix + tap: None}
            if tap == "self_attn.qkv":
                parts = {f"{prefix}self_attn.{part}": c for part, c in self.heads.fused_columns(self.config).items()}
            if tap == "mlp.gate_up":
                gate, up = np.split(np.arange(len(module.weight)), 2)
                parts = {prefix + "mlp.gate": gate, prefix + "mlp.up": up}
            if tap == "self_attn":
                self.attentions[resolve(layer, path.rsplit(".", 1)[0])] = prefix
            self.sites.append(Site(module, "input" if marks == "<" else "output", element, marks == "^", parts))
            return

    def run(self, tokens, forced=None):
        """{tap: Record} of one forward over `tokens`, "logits" the last. `forced`: {tap: Lathe's value}."""
        records = {}
        with contextlib.ExitStack() as stack, torch.no_grad():
            for site in self.sites:
                stack.callback(self.watch(site, records, forced).remove)
            self.watch_rotation(stack, records, forced)
            ids = torch.tensor(np.asarray(tokens, dtype=np.int64))[None]
            logits = self.model(ids, use_cache=False).logits[0]
        records["logits"] = Record(logits.float().numpy(), self.model.get_output_embeddings(), records["model.norm"].output)
        return records

    def watch(self, site, records, forced):
        def take(x, argument):
            flat = site.read(x)
            result = flat.clone()
            for tap, columns in site.parts.items():
                at = slice(None) if columns is None else columns
                value = flat[:, at].float().numpy().copy()
                if self.clip and columns is not None:
                    value = value.clip(-self.clip, self.clip)
                records[tap] = Record(value, site.module if site.side == "output" else None, argument, columns)
                if forced is not None and tap in forced:
                    result[:, at] = torch.from_numpy(forced[tap].reshape(value.shape)).to(result.dtype)
            output = site.write(result, x)
            for tap in site.parts:
                records[tap].output = output
            return output.clone()

        if site.side == "input":
            return site.module.register_forward_pre_hook(lambda module, args: (take(args[0], args[0]), *args[1:]))

        def after(module, args, kwargs, output):
            argument = args[0] if args else next(iter(kwargs.values()), None)
            argument = argument.detach().clone() if torch.is_tensor(argument) else None
            if torch.is_tensor(output):
                return take(output, argument)
            return (*output[: site.element], take(output[site.element], argument), *output[site.element + 1:])

        return site.module.register_forward_hook(after, with_kwargs=True)

    def watch_rotation(self, stack, records, forced):
        """`apply_rotary_pos_emb` is a function, not a module: for the time of a run it is replaced where the attention finds it."""
        if not self.attentions:
            return
        home = sys.modules[type(next(iter(self.attentions))).__module__]
        rotate = getattr(home, "apply_rotary_pos_emb", None)
        if rotate is None:
            return
        current = []
        for module, prefix in self.attentions.items():
            hook = module.register_forward_pre_hook(lambda _, args, p=prefix: current.__setitem__(slice(None), [p]))
            stack.callback(hook.remove)

        def take(x, y, tap, cos, sin):
            group = y.shape[1] // self.heads.key_value if tap.endswith("k_rope") else 1  # Falcon repeats keys before it rotates
            own = y[:, ::group].transpose(1, 2)

            records[tap] = Record(own.reshape(own.shape[1], -1).float().numpy().copy(), input=x[:, ::group].clone(),
                                  rotate=lambda values, *angles: rotate(values, values, *angles)[0], angles=(cos, sin))
            if forced is None or tap not in forced:
                return y
            return torch.from_numpy(forced[tap].reshape(own.shape)).to(y.dtype).transpose(1, 2).repeat_interleave(group, 1)

        def replaced(q, k, cos, sin, *args, **kwargs):
            rotated = rotate(q, k, cos, sin, *args, **kwargs)
            prefix = current[0] + "self_attn."
            return take(q, rotated[0], prefix + "q_rope", cos, sin), take(k, rotated[1], prefix + "k_rope", cos, sin)

        home.apply_rotary_pos_emb = replaced
        stack.callback(setattr, home, "apply_rotary_pos_emb", rotate)
