#!/usr/bin/env python3
"""Compares the program's ids and texts with those of the Python libraries `tokenizers` and `sentencepiece`.

    check_tokenizers.py build/lathe [--long] [--seed N]

Vocabularies are trained on the spot: random pipelines (model, normaliser, pre-tokeniser, decoder, added tokens with their
flags), sentencepiece models, a list of regular expressions, and byte-level BPE learnt by either side; 40 pipelines, with
--long 400 of them. With --long and ../shared (or $LATHE_SHARED), every vocabulary there besides that has a reference, on the texts there. Needs the
packages `tokenizers` and `sentencepiece`. The last line is "N passed, N failed".
"""
import argparse, glob, json, os, pathlib, random, subprocess, sys, tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RUST_BACKTRACE"] = "0"
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders as D, models as M, normalizers as N
from tokenizers import pre_tokenizers as P, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("LATHE_SHARED", ROOT.parent / "shared"))

TEXT = """The quick brown fox doesn't jump over the lazy dog; it's 3:45 p.m. on 12/10/1998, and nobody's there, is he?
Der Fluß überschwemmte größere Gebiete. Où est passé l'été? ¡Qué niño más añejo! Žluťoučký kůň. İstanbul'da ışık.
Съешь ещё этих мягких французских булок, да выпей чаю. Ὁ κόσμος ἦν. שלום עולם. مرحبا بالعالم، كيف الحال؟ नमस्ते दुनिया।
日本語のテキスト、カタカナとひらがな。中文文本：你好，世界！한국어 텍스트 안녕하세요. ภาษาไทยไม่มีช่องว่าง
def f(x, *, y=None):\n    return {"a": [x ** 2, 0x1F]}  # comment\n\tif x <= 10 and y != 'b': print(f"{x:>10}")
ﬁne ﬂow ① ½ ™ Ⅷ ｆｕｌｌ ㌔ e\u0301 n\u0303 \u1112\u1161\u11ab 👩‍👩‍👧‍👦 🇩🇪 🫨 a\u200bb\u00a0c\u3000d\u2028e Ａ𝒳 \u0130\u017f\u212a
the the the of and to in a is that for it was on as with his they be at one have this from or had by hot but some what"""

STRESS = ["", " ", "  ", "\n", "\t \n", "a", " a", "a ", "  a  b  ", "<s>", "[MASK] x[MASK]x [MASK]", "a<s>b </s> c", "<unk>",
          "x" * 300, "ab" * 200, " " * 50 + "end", "\u0301", "e\u0301\u0323", "\x00\x01\x7f\x85", "\ufeff\ufffd\u2581 ▁a▁▁b",
          "don't DON'T I'll we've 'tis", "1234567890 ½²³ ٣٤٥", "\r\n\r\n x\r", "ÀÉÎõü ŒæßẞſK", "👍🏽👩‍🔬🏴\u200d☠\ufe0f🇫🇷🇫", "中文ABC日本語カナｶﾅ한글",
          "Hello , world ! n't do not 's 'm", "||a|| |b|<pad><pad>", "\U0001fae8\U0001fa75\U0001f6dc\U0002ebf0", "a\u0345\u1e9e\u0390ΰ",
          "##a ##b a##b", "<0x41><0xE2>", "\u0e33\u0eb3\u0f77\u1ea4 \ufb01\ufdfa\u3300", "{}[]()<>@#$%^&*-_=+~`|\\/?!.,;:'\""]

PATTERNS = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s+",
    r"[^a[b-d][^\w]]+", r"[a-z&&b-y&&[^m]]+", r"[[^a-c]&&[^ ]]+", r"[\W_]+", r"[^\W\d_]+", r"[^\S\n]+", r"[\w-]+", r"[]a-]+",
    r"\w+", r"\b\w", r"[[:alpha:]]+", r"[[:punct:]]+", r"[[:^graph:]]+", r"\p{Letter}+", r"\p{^L}+", r"\P{Punctuation}+",
    r"\p{Han}+", r"\h+", r"\R", r"\N+", r"(?m:.)+", r"^.", r".$", r"a{2}?", r"a{,2}b", r"a{2}+", r"a(?i)b|c", r"(?x) a  b # [",
    r"(?<x>a)\k<x>", r"(?<=a|bb).", r"\d{1,3}(?=(?:\d{3})*\b)", r"(?=(\d{3})+(?!\d))", r"\x{1F600}|\u00e9|\t|\v|\e", r"x*", r"()"]


def shown(words):
    return "".join(json.dumps(w) + "\n" for w in words)


def answered(function, rows):
    """The rows for which the library has an answer, and the answers: on some it panics, loudly."""
    kept, answers, errors, silent = [], [], os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        for row in rows:
            try:
                answers.append(function(row))
                kept.append(row)
            except KeyboardInterrupt:
                raise
            except BaseException:
                pass
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(silent)
    return kept, answers


class Check:
    def __init__(self, program):
        self.program, self.passed, self.failed, self.folder = program, 0, 0, tempfile.mkdtemp()

    def run(self, command, file, rows, *extra):
        batch = os.path.join(self.folder, "batch.jsonl")
        with open(batch, "w") as f:
            f.write(shown(rows))
        result = subprocess.run([self.program, command, "--tokenizer", file, *(["--no-special-tokens"] * (command == "tokenize")),
                                 *extra, "--batch", batch], capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(result.stderr.strip()[-400:])
        return [json.loads(line) for line in result.stdout.split("\n") if line]

    def report(self, name, rows, got, want):
        wrong = [(r, g, w) for r, g, w in zip(rows, got, want, strict=True) if g != w]
        self.passed += not wrong
        self.failed += bool(wrong)
        if wrong:
            row, g, w = wrong[0]
            print(f"FAIL {name}: {len(wrong)} of {len(rows)}, first {row!r:.200}\n     got  {g!r:.200}\n     want {w!r:.200}", flush=True)

    def library(self, name, tokenizer, texts, file=None, decode=True):
        """The ids of `texts`, and the texts of those ids and of random ones."""
        if file is None:
            file = os.path.join(self.folder, "tokenizer.json")
            tokenizer.save(file)
        texts, want = answered(lambda t: tokenizer.encode(t, add_special_tokens=False).ids, texts)
        try:
            self.report(name + " ids", texts, self.run("tokenize", file, texts), want)
            if decode:
                known = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
                ids = [w for w in want if w] + [random.choices(known, k=12) for _ in range(20)]
                ids, text = answered(lambda i: tokenizer.decode(i, skip_special_tokens=False), ids)
                self.report(name + " text", ids, self.run("detokenize", file, ids), text)
        except RuntimeError as error:
            self.failed += 1
            print(f"FAIL {name}: {error!s:.400}", flush=True)


# What came after Unicode 8 is left out: of it the library's parts know this or that, each by its own version.
def random_characters():
    ranges = [(0x20, 0x7E)] * 6 + [(0, 0x1F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x591, 0x6FF), (0x901, 0x9FD), (0xE01, 0xE3A),
              (0x1100, 0x11FF), (0x1E00, 0x1FFE), (0x2000, 0x206F), (0x2070, 0x218B), (0x2190, 0x23FA), (0x2460, 0x27BF), (0x2C60, 0x2C7F),
              (0x3000, 0x30FF), (0x3130, 0x33FF), (0x4E00, 0x9FA5), (0xA960, 0xA97C), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFA6D),
              (0xFB00, 0xFB06), (0xFE00, 0xFE6F), (0xFF01, 0xFFEE), (0x10300, 0x1031F), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF),
              (0x1F300, 0x1F64F), (0x1F680, 0x1F6CF), (0x20000, 0x200FF), (0xE0001, 0xE007F), (0xFE0F, 0xFE0F), (0x200B, 0x200F)]
    return lambda r: chr(r.randint(*r.choice(ranges)))


def texts_for(r, count):
    character, words = random_characters(), TEXT.split()
    texts = list(STRESS) + TEXT.split("\n")
    for _ in range(count):
        kind = r.randrange(3)
        if kind == 0:
            texts.append("".join(character(r) for _ in range(r.randint(1, 60))))
        elif kind == 1:
            texts.append(r.choice([" ", "  ", "", "\n"]).join(r.choices(words, k=r.randint(1, 15))))
        else:
            special = ["<s>", "</s>", "[MASK]", "tok", "<x y>", " lead", "Ünï", "ab c", "<unk>"]
            texts.append("".join(r.choice([r.choice(words), r.choice(special), " ", " \t", character(r)]) for _ in range(20)))
    return texts


def charsmap(rule):
    """sentencepiece's compiled rules of this name, out of a model trained for them."""
    import sentencepiece.sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    model.ParseFromString(train_sentencepiece("bpe", vocab_size=300, normalization_rule_name=rule))
    return model.normalizer_spec.precompiled_charsmap


def train_sentencepiece(kind, **options):
    with tempfile.TemporaryDirectory() as folder:
        source, prefix = os.path.join(folder, "text"), os.path.join(folder, "m")
        with open(source, "w") as f:
            f.write(TEXT)
        sentencepiece.SentencePieceTrainer.train(input=source, model_prefix=prefix, model_type=kind, hard_vocab_limit=False,
                                                 minloglevel=4, num_threads=1, **options)
        return pathlib.Path(prefix + ".model").read_bytes()


def random_normalizer(r, maps):
    simple = [N.NFC, N.NFD, N.NFKC, N.NFKD, N.Lowercase, N.StripAccents, N.Nmt]

    def one():
        kind = r.randrange(8)
        if kind < 3:
            return r.choice(simple)()
        if kind == 3:
            return N.Strip(left=r.random() < 0.5, right=r.random() < 0.5)
        if kind == 4:
            return N.Replace(*r.choice([("a", "bb"), (Regex(r"\s+"), " "), (Regex(r"[^\w\s]"), ""), (" ", "▁"), ("''", '"')]))
        if kind == 5:
            return N.Prepend(r.choice(["▁", "x", " "]))
        if kind == 6:
            return N.BertNormalizer(clean_text=r.random() < 0.7, handle_chinese_chars=r.random() < 0.7,
                                    strip_accents=r.choice([None, True, False]), lowercase=r.random() < 0.7)
        return N.Precompiled(r.choice(maps))

    count = r.choice([0, 1, 1, 1, 2, 3])
    return None if count == 0 else one() if count == 1 else N.Sequence([one() for _ in range(count)])


def random_pre_tokenizer(r, schemes):
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]

    def one():
        kind = r.randrange(11)
        if kind == 0:
            return P.Whitespace()
        if kind == 1:
            return P.WhitespaceSplit()
        if kind == 2:
            return P.BertPreTokenizer()
        if kind == 3:
            return P.Metaspace(replacement=r.choice(["▁", "_", "Ġ"]), prepend_scheme=r.choice(schemes),
                               split=r.random() < 0.7)
        if kind == 4:
            return P.Punctuation(r.choice(behaviors))
        if kind == 5:
            return P.Digits(individual_digits=r.random() < 0.5)
        if kind == 6:
            return P.UnicodeScripts()
        if kind == 7:
            return P.CharDelimiterSplit(r.choice([" ", "|", "a"]))
        if kind == 8:
            return P.FixedLength(length=r.randint(1, 9))
        return P.Split(r.choice([" ", "'s", Regex(r.choice(PATTERNS[:12]))]), r.choice(behaviors), invert=r.random() < 0.3)

    count = r.choice([0, 1, 1, 1, 2, 3])
    return None if count == 0 else one() if count == 1 else P.Sequence([one() for _ in range(count)])


def random_decoder(r, word_piece):
    def one():
        return r.choice([lambda: D.WordPiece(prefix=r.choice(["##", "a"]), cleanup=r.random() < 0.5),
                         lambda: D.Metaspace(prepend_scheme=r.choice(["always", "first", "never"])),
                         lambda: D.BPEDecoder(suffix=r.choice(["</w>", "e"])), lambda: D.ByteFallback(), lambda: D.ByteLevel(),
                         lambda: D.CTC(pad_token=r.choice(["<pad>", "e"]), word_delimiter_token="|", cleanup=r.random() < 0.7),
                         lambda: D.Replace(r.choice(["▁", "e", Regex(r"\s")]), r.choice([" ", "", "xy"])),
                         lambda: D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", r.randint(0, 2), 0)])])()
    if word_piece and r.random() < 0.6:
        return D.WordPiece(cleanup=r.random() < 0.5)
    count = r.choice([0, 1, 1, 1, 2])
    return None if count == 0 else one() if count == 1 else D.Sequence([one() for _ in range(count)])


def random_pipeline(r, maps):
    size, kind = r.choice([120, 300, 600]), r.choice(["BPE", "BPE", "byte-level", "Unigram", "Unigram", "WordPiece", "WordLevel"])
    special = ["<unk>", "<s>", "</s>"]
    fallback = r.random() < 0.4
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    if kind in ("BPE", "byte-level"):
        affixes = {}
        if kind == "BPE" and r.random() < 0.3:
            affixes = {"continuing_subword_prefix": "##"} if r.random() < 0.5 else {"end_of_word_suffix": "</w>"}
        tokenizer = Tokenizer(M.BPE(unk_token=r.choice(["<unk>", None]) if kind == "BPE" else None, fuse_unk=r.random() < 0.5,
                                    byte_fallback=fallback and kind == "BPE", ignore_merges=r.random() < 0.2, **affixes))
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, limit_alphabet=r.choice([60, 400]),
                                      special_tokens=special + bytes_ * (fallback and kind == "BPE"),
                                      initial_alphabet=P.ByteLevel.alphabet() if kind == "byte-level" else [], **affixes)
    elif kind == "Unigram":
        tokenizer = Tokenizer(M.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=size, show_progress=False, unk_token="<unk>", special_tokens=special)
    elif kind == "WordPiece":
        tokenizer = Tokenizer(M.WordPiece(unk_token="<unk>", max_input_chars_per_word=r.choice([5, 100])))
        trainer = trainers.WordPieceTrainer(vocab_size=size, show_progress=False, special_tokens=special, limit_alphabet=r.choice([60, 400]))
    else:
        tokenizer = Tokenizer(M.WordLevel(unk_token="<unk>"))
        trainer = trainers.WordLevelTrainer(vocab_size=size, show_progress=False, special_tokens=special)
    normalizer = random_normalizer(r, maps)
    # "first" asks the library where in the original text a piece began; ours asks where in the normalised one.
    pre_tokenizer = random_pre_tokenizer(r, ["always", "never"] + ["first"] * (normalizer is None))
    if kind == "byte-level":
        last = P.ByteLevel(add_prefix_space=r.random() < 0.5, use_regex=r.random() < 0.7)
        pre_tokenizer = last if pre_tokenizer is None or r.random() < 0.5 else P.Sequence([pre_tokenizer, last])
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(TEXT.split("\n") * 2, trainer)
    if kind == "Unigram" and fallback:  # the trainer has no such option
        vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
        tokenizer.model = M.Unigram([tuple(v) for v in vocabulary] + [(b, 0.0) for b in bytes_], 0, True)
    decoder = D.ByteLevel() if kind == "byte-level" and r.random() < 0.8 else random_decoder(r, kind == "WordPiece")
    if decoder is not None:
        tokenizer.decoder = decoder
    contents = r.sample(["[MASK]", "tok", "<x y>", " lead", "Ünï", "ab c", "</s>x", "t", "\n", "中"], r.randint(0, 5))
    for content in contents:
        token = AddedToken(content, single_word=r.random() < 0.3, lstrip=r.random() < 0.3, rstrip=r.random() < 0.3,
                           normalized=content != "\n" and r.random() < 0.5)  # a line feed may normalise to nothing
        (tokenizer.add_special_tokens if r.random() < 0.3 else tokenizer.add_tokens)([token])
    if r.random() < 0.5:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B",
                                                                 special_tokens=[("<s>", 1), ("</s>", 2)])
    return kind, tokenizer


def check_pipelines(check, r, count, texts):
    maps = [charsmap(rule) for rule in ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf")]
    done = 0
    while done < count:
        seed = r.randrange(1 << 30)
        own = random.Random(seed)
        random.seed(seed)
        try:
            kind, tokenizer = random_pipeline(own, maps)
        except Exception as error:
            if "not large enough" in str(error):  # the size that was drawn is less than the alphabet
                continue
            raise
        done += 1
        check.library(f"pipeline {done} (seed {seed}, {kind})", tokenizer, texts_for(own, texts))


def check_patterns(check, r, texts):
    """Each piece's last byte has a spelling of its own, so that the ids show where the pieces end."""
    alphabet = sorted(P.ByteLevel.alphabet())
    vocabulary = {text: i for i, text in enumerate(alphabet + [a + "</w>" for a in alphabet])}
    for pattern in PATTERNS:
        tokenizer = Tokenizer(M.BPE(vocab=vocabulary, merges=[], end_of_word_suffix="</w>"))
        tokenizer.pre_tokenizer = P.Sequence([P.Split(Regex(pattern), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)])
        check.library(f"pattern {pattern}", tokenizer, texts, decode=False)


def check_sentencepiece(check, r, texts):
    file = os.path.join(check.folder, "m.model")
    for kind in ("unigram", "bpe"):
        for fallback in (False, True):
            for rule in ("nmt_nfkc", "identity", "nmt_nfkc_cf"):
                options = dict(vocab_size=700 if fallback else 420, byte_fallback=fallback, normalization_rule_name=rule,
                               remove_extra_whitespaces=r.random() < 0.5, add_dummy_prefix=r.random() < 0.7)
                pathlib.Path(file).write_bytes(train_sentencepiece(kind, **options))
                processor = sentencepiece.SentencePieceProcessor(model_file=file)
                want = [processor.encode(t) for t in texts]
                name = f"sentencepiece {kind}, {rule}{', byte fallback' * fallback}"
                try:
                    # Releases of the library sum in different precisions, and so break ties between equal sums their own way.
                    got = [w if kind == "unigram" and sorted(g) == sorted(w) else g
                           for g, w in zip(check.run("tokenize", file, texts), want, strict=True)]
                    check.report(name + " ids", texts, got, want)
                    check.report(name + " text", want, check.run("detokenize", file, want), [processor.decode(w) for w in want])
                except RuntimeError as error:
                    check.failed += 1
                    print(f"FAIL {name}: {error}")


# Other forms of the vocabularies that a tokenizer.json has, too: the same ids for text without special tokens. Not the GGUF
# forms of qwen2, which has no NFC as llama.cpp normalises nothing, and of gpt-neox, which does not name its pre-tokeniser.
TWINS = [("gpt2/vocab.bpe", "gpt2"), ("llama3_tiktoken/tokenizer.model", "llama3_1", "--pattern", "llama3"),
         ("qwen1_tiktoken/qwen.tiktoken", "qwen3", "--pattern", "qwen"), ("ggml-vocab/ggml-vocab-gpt-2.gguf", "gpt2"),
         ("ggml-vocab/ggml-vocab-llama-bpe.gguf", "llama3_1")]


def check_training(check, r, texts):
    """Vocabularies that `lathe tokenizer train` and BpeTrainer learn from the same files."""
    runs = "".join(r.choice([" ", "\n", "\r\n", ""]) + "".join(r.choices("ab-é"[:r.randint(1, 4)], k=r.randint(1, 30))) for _ in range(2000))
    written = []
    for i, text in enumerate(["\n".join([TEXT] + texts), runs, (ROOT / "docs/architecture.md").read_text()]):
        written.append(os.path.join(check.folder, f"text{i}.txt"))
        pathlib.Path(written[-1]).write_text(text, newline="")
    cases = [([file], size) for file in written for size in (300, 1000, 50000)] + [(written, 4000)]
    if SHARED.is_dir():
        cases += [([str(SHARED / "text" / file)], 8000) for file in ("tinyshakespeare/input.txt", "wikitext-2/wiki.test.raw")]
    for files, size in cases:
        alphabet, special = P.ByteLevel.alphabet(), ["<|endoftext|>", "<|a|>"]
        library = Tokenizer(M.BPE())
        library.pre_tokenizer = P.ByteLevel(add_prefix_space=False)
        library.train(files, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
        file = os.path.join(check.folder, "trained.json")
        subprocess.run([check.program, "tokenizer", "train", "--text-file", *files, "--vocab-size", str(size), "--output", file,
                        "--special-token", *special], check=True, capture_output=True)
        got, want = (json.loads(text)["model"] for text in (pathlib.Path(file).read_text(), library.to_str()))
        check.report(f"trained to {size} on {len(files)} files", ["vocab", "merges"], [got["vocab"], got["merges"]],
                     [want["vocab"], want["merges"]])
        check.library(f"trained to {size}", Tokenizer.from_file(file), texts, file)


def check_shared(check):
    texts = [json.loads(line) for line in open(SHARED / "text/stress/utf8_cases.jsonl", encoding="utf-8")]
    texts = [t if isinstance(t, str) else t["text"] for t in texts]
    sources = [*glob.glob(str(SHARED / "text/udhr/*.txt")), str(SHARED / "text/code/python_sample.txt"),
               *glob.glob(str(SHARED / "text/tinystories/*.txt"))]
    for source in sources:
        texts.append(pathlib.Path(source).read_bytes().decode("utf-8", "replace"))
    for file in sorted(glob.glob(str(SHARED / "tokenizers/*/tokenizer.json"))):
        check.library(os.path.relpath(file, SHARED), Tokenizer.from_file(file), texts, file)
    for file in sorted(glob.glob(str(SHARED / "tokenizers/*/tokenizer.model"))):
        if "tiktoken" in file:
            continue
        processor = sentencepiece.SentencePieceProcessor(model_file=file)
        check.report(os.path.relpath(file, SHARED), texts, check.run("tokenize", file, texts), [processor.encode(t) for t in texts])
    for file in sorted(glob.glob(str(SHARED / "tokenizers/*/tekken.json"))):
        from mistral_common.tokens.tokenizers.tekken import Tekkenizer
        tekken = Tekkenizer.from_file(file)
        check.report(os.path.relpath(file, SHARED), texts, check.run("tokenize", file, texts),
                     [tekken.encode(t, bos=False, eos=False) for t in texts])
    for name, twin, *extra in TWINS:
        file, other = SHARED / "tokenizers" / name, Tokenizer.from_file(str(SHARED / "tokenizers" / twin / "tokenizer.json"))
        special = [token.content for token in other.get_added_tokens_decoder().values()]
        plain = [t for t in texts if not any(s in t for s in special)]
        want = [e.ids for e in other.encode_batch(plain, add_special_tokens=False)]
        check.report(f"{name} as {twin}", plain, check.run("tokenize", str(file), plain, *extra), want)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    r = random.Random(arguments.seed)
    check = Check(arguments.program)
    texts = texts_for(random.Random(1), 100)
    check_patterns(check, r, texts)
    check_sentencepiece(check, r, texts)
    check_training(check, random.Random(arguments.seed), texts)
    check_pipelines(check, r, 400 if arguments.long else 40, 150 if arguments.long else 60)
    if arguments.long and SHARED.is_dir():
        check_shared(check)
    print(f"{check.passed} passed, {check.failed} failed")
    return check.failed > 0


if __name__ == "__main__":
    sys.exit(main())
