#!/usr/bin/env python3
"""Writes the seeds of the fuzzers into tests/fuzz/corpus/<format>/: small files, sound and broken, of every kind that
the readers tell apart. The result is committed; what a fuzzer finds is added beside it under a name of its own.
"""
import json, pathlib, struct

CORPUS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fuzz" / "corpus"


def write(kind, name, content):
    folder = CORPUS / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


# --- safetensors: u64 length of the header, the header in JSON, the data -------------------------------------------

def safetensors(header, data=b"", length=None):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def make_safetensors():
    def case(name, *arguments, **options):
        write("safetensors", name, safetensors(*arguments, **options))

    dtypes = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for dtype, size in dtypes.items():
        header[f"tensor.{dtype}"] = entry(dtype, [2, 3], offset, offset + 6 * size)
        offset += 6 * size
    case("all_dtypes", header, bytes(offset))
    case("no_tensor", {})
    case("scalar_and_empty", {"scalar": entry("F32", [], 0, 4), "empty": entry("F32", [0, 5], 4, 4)}, bytes(4))
    case("padded_header", json.dumps({"a": entry("F32", [1], 0, 4)}) + "   ", bytes(4))
    case("overlap", {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12))
    case("hole", {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12))
    case("beyond_the_file", {"a": entry("F32", [4], 0, 16)}, bytes(4))
    case("backwards", {"a": entry("F32", [1], 4, 0)}, bytes(4))
    case("negative", {"a": entry("F32", [-1], 0, 4)}, bytes(4))
    case("overflowing_shape", {"a": entry("F32", [2**62, 2**62], 0, 4)}, bytes(4))
    case("huge_offsets", {"a": entry("U8", [1], 2**64 - 1, 2**64)}, bytes(4))
    case("wrong_size", {"a": entry("F16", [3], 0, 4)}, bytes(4))
    case("unknown_dtype", {"a": entry("F7", [1], 0, 4)}, bytes(4))
    case("missing_key", {"a": {"dtype": "F32", "shape": [1]}}, bytes(4))
    case("twice", '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', bytes(2))
    case("nested", "[" * 2000)
    case("no_json", "\0" * 16)
    case("length_beyond_the_file", {}, length=1 << 40)
    case("length_maximal", {}, length=2**64 - 1)
    write("safetensors", "cut", safetensors({"a": entry("F32", [2], 0, 8)}, bytes(8))[:30])
    write("safetensors", "short", b"\1\2\3")


# --- GGUF: magic, version, counts, metadata, tensor table, aligned data ----------------------------------------------

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q", I64: "<q", F64: "<d"}


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, content):
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        inner, items = content
        return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, item) for item in items)
    return struct.pack(PACK[kind], content)


def gguf(metadata, tensors=(), data=b"", version=3, magic=b"GGUF", alignment=32, counts=None):
    head = magic + struct.pack("<IQQ", version, *(counts or (len(tensors), len(metadata))))
    for key, (kind, content) in metadata.items():
        head += text(key) + struct.pack("<I", kind) + value(kind, content)
    for name, shape, dtype, offset in tensors:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", dtype, offset)
    return head + bytes(-len(head) % alignment) + data


LLAMA = {
    "general.architecture": (STRING, "llama"), "general.name": (STRING, "tiny"), "general.file_type": (U32, 3),
    "llama.context_length": (U32, 64), "llama.embedding_length": (U32, 32), "llama.block_count": (U32, 1),
    "llama.feed_forward_length": (U32, 64), "llama.attention.head_count": (U32, 4),
    "llama.attention.head_count_kv": (U32, 2), "llama.rope.dimension_count": (U32, 8),
    "llama.rope.freq_base": (F32, 10000.0), "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
    "llama.vocab_size": (U32, 4), "tokenizer.ggml.model": (STRING, "gpt2"), "tokenizer.ggml.pre": (STRING, "smollm"),
    "tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "b", "ab", "<|end|>"])),
    "tokenizer.ggml.token_type": (ARRAY, (I32, [1, 1, 1, 3])),
    "tokenizer.ggml.merges": (ARRAY, (STRING, ["a b"])), "tokenizer.ggml.eos_token_id": (U32, 3),
}


def make_gguf():
    def case(name, *arguments, **options):
        write("gguf", name, gguf(*arguments, **options))

    case("llama", LLAMA, [("token_embd.weight", [32, 4], 8, 0), ("output_norm.weight", [32], 0, 160)], bytes(320))
    case("version_2", LLAMA, [("token_embd.weight", [32, 4], 2, 0)], bytes(128), version=2)
    every = {f"kind.{kind}": (kind, 1) for kind in PACK}
    every["kind.string"] = (STRING, "text")
    every |= {f"array.{kind}": (ARRAY, (kind, [0, 1])) for kind in PACK}
    every["array.empty"] = (ARRAY, (U32, []))
    case("every_kind", every)
    case("quantised", {}, [("q4_0", [32], 2, 0), ("q4_1", [32], 3, 32), ("q8_0", [32], 8, 64), ("q4_k", [256], 12, 128),
                           ("q6_k", [256], 14, 288), ("bf16", [3], 30, 512), ("i32", [2], 26, 544)], bytes(576))
    case("alignment", {"general.alignment": (U32, 64)}, [("a", [1], 0, 64)], bytes(128), alignment=64)
    case("alignment_zero", {"general.alignment": (U32, 0)}, [("a", [1], 0, 0)], bytes(32))
    case("heads_do_not_divide", LLAMA | {"llama.attention.head_count_kv": (U32, 3)})
    case("no_heads", LLAMA | {"llama.attention.head_count": (U32, 0)})
    case("unknown_architecture", {"general.architecture": (STRING, "nosuch")})
    case("number_for_text", LLAMA | {"general.architecture": (U32, 1)})
    case("text_for_number", LLAMA | {"llama.block_count": (STRING, "many")})
    case("heads_by_layer", LLAMA | {"llama.attention.head_count": (ARRAY, (U32, [4]))})
    case("yarn", LLAMA | {"llama.rope.scaling.type": (STRING, "yarn"), "llama.rope.scaling.factor": (F32, 4.0),
                          "llama.rope.scaling.original_context_length": (U32, 16)})
    case("magic", {}, magic=b"GGML")
    case("version_1", {}, version=1)
    case("version_swapped", {}, version=0x03000000)
    case("counts", {}, counts=(2**63, 2**63))
    case("five_dimensions", {}, [("a", [1] * 5, 0, 0)], bytes(32))
    case("overflowing_shape", {}, [("a", [2**40, 2**40], 0, 0)], bytes(32))
    case("half_a_block", {}, [("a", [33], 8, 0)], bytes(128))
    case("offset_beyond_the_file", {}, [("a", [8], 0, 1 << 40)], bytes(32))
    case("offset_not_aligned", {}, [("a", [1], 0, 3)], bytes(32))
    case("overlap", {}, [("a", [16], 0, 0), ("b", [16], 0, 32)], bytes(96))
    case("unknown_type", {}, [("a", [1], 999, 0)], bytes(32))
    case("same_name", {}, [("a", [1], 0, 0), ("a", [1], 0, 32)], bytes(64))
    case("array_of_arrays", {"a": (ARRAY, (ARRAY, [(U32, [1])]))})
    case("unsigned_beyond_int64", {"a": (U64, 2**64 - 1)})
    case("key_of_bytes", {b"\xff\xfe\n".decode("latin-1"): (STRING, b"\xff\0\n")})
    whole = gguf(LLAMA, [("token_embd.weight", [32, 4], 8, 0)], bytes(160))
    for length in (3, 4, 8, 20, 40, 300, len(whole) - 1):
        write("gguf", f"cut_at_{length}", whole[:length])
    write("gguf", "long_array", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", ARRAY, U8, 2**62))
    write("gguf", "long_string", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**64 - 1) + b"abc")


# --- config.json -----------------------------------------------------------------------------------------------------

def make_config():
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 32,
             "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 10000.0,
             "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 64, "n_positions": 32,
            "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": None, "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5, "bos_token_id": 63, "eos_token_id": 63}
    scaling = {"linear": {"type": "linear", "factor": 2.0}, "dynamic": {"rope_type": "dynamic", "factor": 2.0},
               "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 64},
               "yarn": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32, "beta_slow": 1,
                        "original_max_position_embeddings": 32, "attention_factor": None}}

    def case(name, content):
        write("config", name, content if isinstance(content, bytes) else json.dumps(content).encode())

    case("llama", llama)
    case("gpt2", gpt2)
    for name, settings in scaling.items():
        case(f"rope_{name}", llama | {"rope_scaling": settings})
    new_spelling = {key: content for key, content in llama.items() if key != "rope_theta"}
    case("rope_parameters", new_spelling | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "dtype": "float16"})
    case("several_ends", llama | {"eos_token_id": [2, 3, 4]})
    case("heads_do_not_divide", llama | {"num_key_value_heads": 3})
    case("no_heads", llama | {"num_attention_heads": 0})
    case("negative", llama | {"hidden_size": -32})
    case("huge", llama | {"num_hidden_layers": 2**63 - 1, "vocab_size": 2**62})
    case("beyond_int64", llama | {"vocab_size": 2**64})
    case("fraction", llama | {"vocab_size": 64.5})
    case("text_for_number", llama | {"vocab_size": "64"})
    case("null_for_number", llama | {"vocab_size": None})
    case("unknown_architecture", llama | {"architectures": ["NoSuchForCausalLM"], "model_type": "nosuch"})
    case("unknown_scaling", llama | {"rope_scaling": {"rope_type": "nosuch", "factor": 2}})
    case("unknown_activation", llama | {"hidden_act": "nosuch"})
    case("list", [1, 2])
    case("empty", b"")
    case("cut", json.dumps(llama).encode()[:100])
    case("not_utf8", b'{"model_type": "\xff\xfe"}')
    case("nested", b'{"a":' * 1000)


if __name__ == "__main__":
    make_safetensors()
    make_gguf()
    make_config()
