#!/usr/bin/env python3
"""Writes the seeds of the fuzzers into tests/fuzz/corpus/<format>/: small files, sound and broken, of every kind that
the readers tell apart. The result is committed; what a fuzzer finds is added beside it under a name of its own.
"""
import base64, io, json, pathlib, struct, zipfile

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


# --- pytorch_model.bin: a pickle and the bytes of its storages, in a zip archive or one after another ------------------

def in_zip(pickle, storages=(bytes(24),), method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        named = [("data.pkl", pickle), ("byteorder", b"little")] + [(f"data/{i}", s) for i, s in enumerate(storages)]
        for name, content in named:
            archive.writestr(zipfile.ZipInfo("archive/" + name), content, compress_type=method)
    return out.getvalue()


def in_stream(pickle, storages=(bytes(24),), little=b"\x88"):
    head = b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\2M\xe9\3." + b"\x80\2}(X\r\0\0\0little_endian" + little + b"u."
    keys = b"".join(b"X\1\0\0\0" + str(i).encode() for i in range(len(storages)))
    return head + pickle + b"\x80\2](" + keys + b"e." + b"".join(struct.pack("<Q", len(s) // 4) + s for s in storages)


def make_pytorch():
    def unicode(name):
        return b"X" + struct.pack("<I", len(name)) + name.encode()

    def numbers(*values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    def storage(kind="FloatStorage", key="0", elements=6):
        return b"(" + unicode("storage") + f"ctorch\n{kind}\n".encode() + unicode(key) + unicode("cpu") + b"J" + struct.pack("<i", elements) + b"tQ"

    def tensor(shape=(2, 3), strides=(3, 1), offset=0, of=None):
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + (of or storage()) + b"J" + struct.pack("<i", offset) + numbers(*shape) + numbers(*strides) + b"\x89" + ordered + b"tR"

    def dictionary(*values):
        return b"\x80\2" + ordered + b"(" + b"".join(unicode(f"t{i}") + v for i, v in enumerate(values)) + b"u."

    ordered = b"ccollections\nOrderedDict\n)R"
    pickles = {
        "tensors": dictionary(tensor(), tensor((3,), (1,), 3), tensor((), ()), tensor((0, 5), (5, 1))),
        "parameter": dictionary(b"ctorch._utils\n_rebuild_parameter\n(" + tensor() + b"\x88" + ordered + b"tR"),
        "types": dictionary(*(tensor((1,), (1,), of=storage(k + "Storage", elements=2)) for k in
                              ("Double", "Half", "BFloat16", "Int", "Long", "Short", "Char", "Byte", "Bool"))),
        "metadata": dictionary(tensor())[:-1] + b"}" + unicode("_metadata") + ordered + b"sb.",
        "python_2": b"\x80\2ccollections\nOrderedDict\n](](U\1a" + tensor() + b"ee\x85R.",
        "protocol_4": b"\x80\4\x95\x40\0\0\0\0\0\0\0}\x94\x8c\1a\x94h\0s.",
        "memo": b"\x80\2}q\0(" + unicode("a") + b"q\1" + tensor() + b"q\2" + unicode("b") + b"h\2ur\0\1\0\0.",
        "itself": b"\x80\2}q\0" + unicode("a") + b"h\0s.",
        "system": b"\x80\2cos\nsystem\n" + unicode("true") + b"\x85R.",
        "stack_global": b"\x80\4\x8c\2os\x8c\6system\x93.",
        "instance": b"\x80\2(i__main__\nThing\n.",
        "calls_a_type": dictionary(b"ctorch\nFloatStorage\n)R"),
        "transposed": dictionary(tensor((3, 2), (1, 3))),
        "beyond_its_storage": dictionary(tensor((7,), (1,))),
        "beyond_the_file": dictionary(tensor((9,), (1,), of=storage(elements=9))),
        "overflowing_shape": dictionary(tensor((2**31 - 1,) * 4, (1,) * 4)),
        "no_storage": dictionary(tensor(of=storage(key="7"))),
        "marks": b"\x80\2" + b"(" * 200 + b"t" * 200 + b".",
    }
    for name, pickle in pickles.items():
        write("pytorch", "zip_" + name, in_zip(pickle))
        write("pytorch", "stream_" + name, in_stream(pickle))
    whole = in_zip(pickles["tensors"])
    write("pytorch", "zip_cut", whole[:-30])
    write("pytorch", "zip_compressed", in_zip(pickles["tensors"], (bytes(4096),), zipfile.ZIP_DEFLATED))
    write("pytorch", "zip_lying_sizes", whole.replace(struct.pack("<II", 24, 24), struct.pack("<II", 1 << 30, 1 << 30)))
    write("pytorch", "stream_cut", in_stream(pickles["tensors"])[:-10])
    write("pytorch", "stream_big_endian", in_stream(pickles["tensors"], little=b"\x89"))


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
                           ("q6_k", [256], 14, 288), ("bf16", [3], 30, 512), ("i32", [2], 26, 544), ("iq4_nl", [32], 20, 576),
                           ("iq4_xs", [256], 23, 608)], bytes(768))
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
    for name, changes in {
        "mistral": {"sliding_window": 16}, "qwen3": {"head_dim": 16, "attention_bias": True},
        "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.02, "sliding_window": None},
        "qwen2": {"use_sliding_window": True, "sliding_window": 16, "layer_types": ["full_attention", "sliding_attention"]},
        "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True,
                      "mlp_only_layers": [0], "decoder_sparse_step": 1}}.items():
        architecture = "".join(part.capitalize() for part in name.split("_")) + "ForCausalLM"
        case(name, llama | {"architectures": [architecture], "model_type": name} | changes)
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


# --- tokenizer.json --------------------------------------------------------------------------------------------------

def byte_letters():
    """GPT-2's spelling of the bytes 0 to 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


def charsmap(leaf=0, offset=256):
    """Compiled normalisation rules: A becomes a. A double array of 512 nodes, then the replacements."""
    nodes = [0] * 512
    nodes[0] = offset << 10
    nodes[256 ^ ord("A")] = 320 << 10 | 1 << 8 | ord("A")
    nodes[1] = leaf | 1 << 31
    return struct.pack("<I512I", 4 * 512, *nodes) + b"a\0"


def make_tokenizer_json():
    letters = "abcdefghijklmnopqrstuvwxyz"
    small = {c: i for i, c in enumerate("\u0120" + letters + "HW,!'12345\u2581")} | {"he": 38, "ll": 39, "hell": 40}
    bpe = {"type": "BPE", "vocab": small, "merges": [["h", "e"], ["l", "l"], ["he", "ll"]]}
    base = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None,
            "decoder": None, "model": bpe}

    def case(name, **members):
        write("tokenizer_json", name, json.dumps(base | members, ensure_ascii=False).encode())

    def added(content, number, **flags):
        return {"id": number, "content": content, "special": False, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False} | flags

    case("bpe")
    case("byte_level", pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
         decoder={"type": "ByteLevel"}, model=bpe | {"vocab": {c: i for i, c in enumerate(byte_letters())}, "merges": [],
                                                     "ignore_merges": True})
    case("byte_fallback", model=bpe | {"vocab": small | {f"<0x{b:02X}>": 50 + b for b in range(256)}, "byte_fallback": True,
                                       "unk_token": "a", "fuse_unk": True},
         decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                                                   {"type": "ByteFallback"}, {"type": "Fuse"},
                                                   {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
    case("affixes", model=bpe | {"vocab": {"a": 0, "##b": 1, "ab": 2, "c</w>": 3, "b</w>": 4}, "merges": ["a ##b"],
                                 "continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"},
         pre_tokenizer={"type": "WhitespaceSplit"}, decoder={"type": "BPEDecoder", "suffix": "</w>"})
    case("word_piece", model={"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "he": 1, "##l": 2, "##o": 3}},
         normalizer={"type": "BertNormalizer"}, pre_tokenizer={"type": "BertPreTokenizer"},
         decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
         post_processor={"type": "BertProcessing", "sep": ["he", 1], "cls": ["[UNK]", 0]})
    case("word_level", model={"type": "WordLevel", "unk_token": "a", "vocab": small}, pre_tokenizer={"type": "Whitespace"})
    unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
               "vocab": [["<unk>", 0], ["\u2581", -1.5], ["h", -3], ["he", -3.5], ["l", -2], ["ll", -3], ["o", -2.5]]}
    case("unigram", model=unigram, pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"},
         decoder={"type": "Metaspace", "replacement": "\u2581"},
         normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap()).decode()})
    case("unigram_without_unknown", model=unigram | {"unk_id": None})
    case("unigram_unknown_outside", model=unigram | {"unk_id": 99})
    case("unigram_empty", model=unigram | {"vocab": []})
    case("charsmap_outside", normalizer={"type": "Precompiled",
                                         "precompiled_charsmap": base64.b64encode(charsmap(leaf=99)).decode()})
    case("normalizers", normalizer={"type": "Sequence", "normalizers": [
        {"type": kind} for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt")] + [
        {"type": "Prepend", "prepend": "\u2581"}, {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}|[^\\w\\s&&[a-z]]"}, "content": " "}]})
    case("growing", normalizer={"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40})
    case("pre_tokenizers", pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{N}{1,3}|\\s+(?!\\S)"}, "behavior": "Isolated", "invert": False},
        {"type": "Split", "pattern": {"String": "l"}, "behavior": "MergedWithPrevious", "invert": True},
        {"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "Contiguous"},
        {"type": "CharDelimiterSplit", "delimiter": "-"}, {"type": "UnicodeScripts"},
        {"type": "FixedLength", "length": 3}]})
    case("added", added_tokens=[added("<s>", 50, special=True), added("Hello", 51, normalized=True, single_word=True),
                                added("\u00e9", 52, lstrip=True, rstrip=True), added("a", 0), added("he", 53)],
         normalizer={"type": "Lowercase"},
         post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                                  {"Sequence": {"id": "A", "type_id": 0}}],
                         "special_tokens": {"<s>": {"id": "<s>", "ids": [50], "tokens": ["<s>"]}}})
    case("ctc", decoder={"type": "CTC", "pad_token": "a", "word_delimiter_token": "h", "cleanup": True})
    case("foreign_merge", model=bpe | {"merges": [["x", "nosuch"]]})
    case("same_id", model=bpe | {"vocab": {"a": 0, "b": 0}})
    case("id_beyond", model=bpe | {"vocab": {"a": 2**40}, "merges": []})
    case("fraction", model=bpe | {"vocab": {"a": 0.5}})
    case("unknown_type", model={"type": "NoSuch"})
    case("broken_pattern", pre_tokenizer={"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False})
    case("endless_pattern", pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
                                           "invert": False})
    write("tokenizer_json", "nested", b'{"model":' + b"[" * 500)
    write("tokenizer_json", "cut", json.dumps(base).encode()[:200])
    write("tokenizer_json", "empty", b"")


# --- ranks: tekken.json, tiktoken's lines ----------------------------------------------------------------------------

def make_ranks():
    tokens = [bytes([byte]) for byte in range(256)] + [b"he", b"ll", b"hell", b"\xc3\xa9"]
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
    write("ranks", "tiktoken", lines)
    write("ranks", "tiktoken_twice", lines + b"aGU= 300\n")
    write("ranks", "tiktoken_hole", lines + b"b28= 3000\n")
    write("ranks", "tiktoken_rank_beyond", lines + b"b28= 99999999999999999999\n")
    write("ranks", "tiktoken_cut", lines[:1000])
    write("ranks", "tiktoken_no_base64", b"a 0\n")
    tekken = {"config": {"pattern": "[^\\r\\n\\p{L}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+", "num_vocab_tokens": 260,
                         "default_vocab_size": 265, "default_num_special_tokens": 5, "version": "v7"},
              "vocab": [{"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
                        for rank, token in enumerate(tokens)],
              "special_tokens": [{"rank": rank, "token_str": text, "is_control": True}
                                 for rank, text in enumerate(["<unk>", "<s>", "</s>"])]}

    def case(name, config=(), **members):
        write("ranks", name, json.dumps(tekken | {"config": tekken["config"] | dict(config)} | members).encode())

    case("tekken")
    case("tekken_standard", {"default_vocab_size": 280, "default_num_special_tokens": 20, "version": "v3"}, special_tokens=None)
    case("tekken_sizes", {"default_vocab_size": -1})
    case("tekken_sizes_huge", {"default_vocab_size": 2**62, "default_num_special_tokens": 2**24})
    case("tekken_version", {"version": "v99999"}, special_tokens=None)
    case("tekken_empty", vocab=[])


# --- sentencepiece: a protobuf message ---------------------------------------------------------------------------------

def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, content):
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def piece(content, score=0.0, kind=NORMAL):
    return field(1, field(1, content.encode()) + field(2, score) + field(3, kind))


def sentencepiece(pieces, model_type=1, rules=b"", trainer=b""):
    return b"".join(pieces) + field(2, field(3, model_type) + trainer) + field(3, field(1, b"seed") + field(2, rules))


def make_sentencepiece():
    control = [piece("<unk>", 0.0, UNKNOWN), piece("<s>", 0.0, CONTROL), piece("</s>", 0.0, CONTROL)]
    normal = [piece(text, -float(rank)) for rank, text in enumerate(["\u2581", "h", "e", "l", "o", "he", "ll", "hell", "\u2581he"])]
    fallback = [piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    for number, name in enumerate(["unigram", "bpe", "word", "char"], 1):
        write("sentencepiece", name, sentencepiece(control + normal, number))
    write("sentencepiece", "byte_fallback", sentencepiece(control + fallback + normal, 2, trainer=field(35, 1)))
    write("sentencepiece", "half_a_fallback", sentencepiece(control + fallback[:100] + normal, 2, trainer=field(35, 1)))
    write("sentencepiece", "user_defined", sentencepiece(control + normal + [piece("Hello", 0.0, USER_DEFINED), piece("world", 0.0, UNUSED)]))
    write("sentencepiece", "rules", sentencepiece(control + normal, rules=charsmap()))
    write("sentencepiece", "rules_leaf_outside", sentencepiece(control + normal, rules=charsmap(leaf=1 << 20)))
    write("sentencepiece", "rules_node_outside", sentencepiece(control + normal, rules=charsmap(offset=1 << 20)))
    write("sentencepiece", "rules_cut", sentencepiece(control + normal, rules=charsmap()[:100]))
    write("sentencepiece", "not_a_number", sentencepiece(control + [piece("a", float("nan")), piece("b", float("inf"))]))
    write("sentencepiece", "unknown_type", sentencepiece(control + normal, 9))
    write("sentencepiece", "no_unknown", sentencepiece(normal))
    write("sentencepiece", "two_unknown", sentencepiece(control + control + normal))
    write("sentencepiece", "empty_piece", sentencepiece(control + [piece("")]))
    write("sentencepiece", "not_utf8", sentencepiece(control + [field(1, field(1, b"\xe2\x82") + field(2, 0.0))]))
    write("sentencepiece", "unknown_surface", sentencepiece(control + normal, trainer=field(44, b"\xff")))
    write("sentencepiece", "zero_byte", sentencepiece(control + [piece("a\0b")]))
    write("sentencepiece", "no_pieces", sentencepiece([]))
    write("sentencepiece", "cut", sentencepiece(control + normal)[:40])
    write("sentencepiece", "endless_varint", b"\x0a" + b"\xff" * 12)


# --- chat templates ------------------------------------------------------------------------------------------------------

def make_chat_template():
    cases = {
        "chatml": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '')|string + '<|im_end|>' }}\n{% endfor %}"
                  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        "tools": "{{ bos_token }}{%- if tools is not none %}{% for t in tools %}{{ t | tojson(indent=2) }}{% endfor %}{% endif %}"
                 "{{ strftime_now('%d %b %Y') }}",
        "macro": "{% macro show(x, n=2) %}[{{ x }}{{ caller() if caller }}]{% endmacro %}{% call show(1) %}in{% endcall %}{{ show('a', n=3) }}",
        "namespace": "{% set ns = namespace(i=0) %}{% for m in messages if m.role != 'tool' %}{% set ns.i = ns.i + loop.index0 %}"
                     "{% if loop.last %}{% break %}{% endif %}{% continue %}{% endfor %}{{ ns.i }}",
        "filters": "{{ [3,1,2]|sort|join(',') }}{{ 'a b'|title|replace('A','c')|trim }}{{ {'b':1,'a':2}|dictsort|list }}"
                   "{{ messages|selectattr('role','eq','user')|map(attribute='content')|list|length }}{{ 1.5|round(1) }}",
        "methods": "{{ 'a,b'.split(',')[::-1] }}{{ '%s-%d' % ('x', 3) }}{{ '{:>5}'.format(7) }}{{ messages[0].items()|list }}{{ 'x'.upper()*3 }}",
        "generation": "{% generation %}{{ messages[-1]['content'][0]['text'] }}{% endgeneration %}",
        "raise": "{{ raise_exception('no') }}",
        "endless": "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}",
        "recursive": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "large": "{{ ('x' * 100000) * 100000 }}",
        "nested": "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
        "nested_blocks": "{% if 1 %}" * 300,
        "literals": "{{ 0x1F }}{{ 1_000 }}{{ 1e3 }}{{ none }}{{ true and not false or 1 }}{{ [1,(2,),{'a':3}] }}{{ -7 // 2 }}{{ 2 ** 10 }}",
        "whitespace": "a  {%- if true -%}  b  {%- endif +%}\n {#- c -#}\n{% raw %}{{ x }}{% endraw %}",
        "unclosed": "{{ 'a",
        "undefined": "{{ nothing.at.all }}",
        "tests": "{{ x is defined }}{{ 1 is odd }}{{ [] is iterable }}{{ 'a' in 'abc' }}{{ 3 is divisibleby 3 }}{{ 1 < 2 < 3 }}",
        "recursive_loop": "{% for m in [[1,[2]],3] recursive %}{{ loop(m) if m is iterable else m }}{% endfor %}",
    }
    for name, source in cases.items():
        write("chat_template", name, source.encode())


# --- what clients send: an endpoint, a form's type or "batch", then the body ---------------------------------------------------

def make_serve():
    user = {"role": "user", "content": "hi"}
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}
    turns = [{"role": "system", "content": [{"type": "text", "text": "a"}]}, user, {"role": "assistant", "content": None, "tool_calls": [call]},
             {"role": "tool", "tool_call_id": "c1", "content": "1"}]
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 7, "stop": ["ab", "c"], "n": 2, "logit_bias": {"1": -100, "2": 100},
                "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1, "ignore_eos": True, "user": "me"}
    shape = {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": {
        "type": "object", "properties": {"a": {"type": "array", "items": {"enum": ["x", 1, None]}}, "b": {"$ref": "#/$defs/d"}},
        "$defs": {"d": {"type": "string", "pattern": "^a+$"}}, "required": ["a"], "additionalProperties": False}}}
    cases = {
        "completion": ("/v1/completions", {"model": "tiny", "prompt": "Once", "max_tokens": 5, "echo": True, "logprobs": 2, **sampling}),
        "completion_ids": ("/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 0, "echo": True, "logprobs": 1, "stream": True,
                                               "stream_options": {"include_usage": True}}),
        "completion_best_of": ("/v1/completions", {"prompt": ["a", "b"], "n": 2, "best_of": 4, "suffix": ""}),
        "chat": ("/v1/chat/completions", {"messages": [user], "max_completion_tokens": 4, "logprobs": True, "top_logprobs": 2, **sampling}),
        "chat_tools": ("/v1/chat/completions", {"messages": turns, "tools": [{"type": "function", "function": function}], "tool_choice": "auto",
                                                "parallel_tool_calls": False, "stream": True, "chat_template_kwargs": {"enable_thinking": False}}),
        "chat_forced": ("/v1/chat/completions", {"messages": [user], "tools": [{"type": "function", "function": function}], "n": 1,
                                                 "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        "chat_schema": ("/v1/chat/completions", {"messages": [user], "response_format": shape, "reasoning_effort": "low"}),
        "response": ("/v1/responses", {"input": "hi", "instructions": "be brief", "max_output_tokens": 5, "stream": True, "store": False,
                                       "text": {"format": {"type": "text"}}, "reasoning": {"effort": "low"}}),
        "response_items": ("/v1/responses", {"input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
                                                       {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                                                       {"type": "function_call_output", "call_id": "c", "output": "1"}],
                                             "tools": [{"type": "function", **function}, {"type": "web_search"}], "tool_choice": "auto"}),
        "response_count": ("/v1/responses/input_tokens", {"input": "hi"}),
        "message": ("/v1/messages", {"max_tokens": 5, "system": "x-anthropic-billing-header: v=1; cch=a1b2c;\nBe kind.", "messages": [user],
                                     "stop_sequences": ["a"], "stream": True, "thinking": {"type": "disabled"}}),
        "message_tools": ("/v1/messages", {"max_tokens": 5, "tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "auto"},
                                           "messages": [user, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}]},
                                                        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1"}]}]}),
        "message_count": ("/v1/messages/count_tokens", {"messages": [user]}),
        "embedding": ("/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64", "pooling": "last", "dimensions": 64}),
        "embedding_ids": ("/v1/embeddings", {"input": [1, 2, 3]}),
        "similarity": ("/v1/similarity", {"text_1": "a", "text_2": [[1], [2, 3]]}),
        "tokenize": ("/tokenize", {"prompt": "a b", "return_token_strs": True, "add_special_tokens": False}),
        "tokenize_chat": ("/tokenize", {"messages": turns, "add_generation_prompt": False}),
        "detokenize": ("/detokenize", {"tokens": [0, 1, 60]}),
        "render": ("/render", {"messages": turns, "tools": [{"type": "function", "function": function}]}),
    }
    for name, (endpoint, body) in cases.items():
        write("serve", name, f"{endpoint}\n{json.dumps(body)}".encode())
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a"}})
    write("serve", "batch", f"batch\n{line}\n\n{line}\n{{".encode())
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\\"b.jsonl"\r\nX: y\r\n\r\n{}\n\r\n'
    write("serve", "form", b'multipart/form-data; boundary="b"\n' + part + b"--b \r\n" + part.split(b"\r\n", 1)[1] + b"--b--\r\n")


if __name__ == "__main__":
    make_safetensors()
    make_pytorch()
    make_gguf()
    make_config()
    make_tokenizer_json()
    make_ranks()
    make_sentencepiece()
    make_chat_template()
    make_serve()
