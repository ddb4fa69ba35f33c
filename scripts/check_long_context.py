#!/usr/bin/env python3
"""A prompt of 131,072 tokens through a tiny Llama with the rotary scaling of Llama 3.1, beside transformers.

    scripts/check_long_context.py [PROGRAM] [--tokens N]

The model is random: 2 layers of width 64, 4 heads over 2 key-value heads of 16, a vocabulary of 16, rope_type llama3 with factor 8 from
8,192 to 131,072 positions. Compared are all logits of the last 16 rows, in float32 on both sides: `lathe logits` goes through the paged
cache in chunks of 512 tokens, transformers through torch's fused attention in one pass. Then the memory: what the pages of the cache
take, and the peak beyond that of a short prompt. Needs the reference environment (`make reference`) and some two minutes on two cores.
One line a check and a closing line "N passed, N failed, N skipped".

Two tolerances, of the largest logit. The frequencies: transformers takes a power in f32, Lathe in double, and rounds it; of the 8
here, 3 differ by an ulp or two, which at position 131,071 is an angle of 131071 * 2^-26 = 0.002 radian for the second frequency (0.19).
A score is a sum of 8 pairs of the order of 1, so it moves by as much, and the mean over many keys by less: 5e-4. With transformers
given the frequencies rounded once, the rest is rounding: an exponential makes of a score's (16 products of the order of 2, 2^-24 each)
a relative error of some 1e-6 of a weight, and a lane that adds up n of 131,072 terms errs by 2^-24 sqrt(n), at most 2e-5: 2e-5 in all.
An angle itself is the same f32 product on both sides. Without the scaling, logits are off by more than half of the largest.
"""
import argparse, math, pathlib, subprocess, sys, tempfile, time

import numpy as np
import torch
import transformers as T

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS, TOLERANCE, EXACT_TOLERANCE = 16, 5e-4, 2e-5
LAYERS, KV_HEADS, HEAD_DIM, VOCABULARY, POSITIONS, PAGE = 2, 2, 16, 16, 131072, 16
ROPE = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192)
MEGABYTE = 1e6
failed = []


def line(holds, text):
    if not holds:
        failed.append(text)
    print("ok  " if holds else "FAIL", text, flush=True)


def make_model():
    """Fresh weights four times as large, those of queries and keys eight times: logits differ by something, and attention is far from
    even, so that positions count."""
    config = T.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=KV_HEADS, max_position_embeddings=POSITIONS, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
        rope_parameters=ROPE)
    torch.manual_seed(131072)
    model = T.LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                p.mul_(8.0 if "q_proj" in name or "k_proj" in name else 4.0)
    return model


def frequencies():
    """Those of rope_type llama3 (transformers, modeling_rope_utils), in double."""
    for i in range(HEAD_DIM // 2):
        frequency = ROPE["rope_theta"] ** (-2 * i / HEAD_DIM)
        turns = ROPE["original_max_position_embeddings"] * frequency / (2 * math.pi)
        low, high = ROPE["low_freq_factor"], ROPE["high_freq_factor"]
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        yield (1 - kept) * frequency / ROPE["factor"] + kept * frequency


def last_rows(model, tokens):
    begin = time.time()
    with torch.no_grad():
        rows = model(tokens[None], logits_to_keep=ROWS, use_cache=False).logits[0].numpy()
    return rows, time.time() - begin


def compare(got, expected, tolerance, what):
    scale, error = float(np.abs(expected).max()), float(np.abs(got - expected).max())
    line(error <= tolerance * scale and (got.argmax(-1) == expected.argmax(-1)).all(),
         f"{what}: the last {ROWS} rows of {VOCABULARY} logits differ by {error:.1e} at most, {error / scale:.1e} of the largest "
         f"({scale:.2f}), allowed {tolerance:.0e}, and have the same largest")


def peak_bytes(process):
    """The largest resident set so far; 0 once the process is gone. (wait4 counts this one's memory before exec, too.)"""
    try:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(text.split()[1]) * 1024 for text in status.splitlines() if text.startswith("VmHWM:"))


def run_lathe(program, folder, tokens):
    """All logits, the seconds, and the peak resident bytes."""
    output, ids, messages = folder / "logits.npy", folder / "ids", folder / "messages"
    ids.write_text(",".join(map(str, tokens)))
    command = [program, "logits", "--model", folder, "--dtype", "float32", "--kv-cache-dtype", "float32", "--tokens", "-", "--output", output]
    begin, peak = time.time(), 0
    with open(ids) as source, open(messages, "w") as sink, subprocess.Popen(command, stdin=source, stderr=sink) as process:
        while process.poll() is None:
            peak = max(peak, peak_bytes(process))
            time.sleep(0.002)
    if process.returncode:
        raise SystemExit(f"lathe logits: exit code {process.returncode}: {messages.read_text().strip()}")
    return np.load(output), time.time() - begin, peak


def check_memory(tokens, short_peak, long_peak):
    """The pages of the cache, and what else grows with the prompt."""
    pages = -(-tokens // PAGE)
    cache = pages * PAGE * 2 * LAYERS * KV_HEADS * HEAD_DIM * 4
    rest = tokens * (4 * VOCABULARY + 4) + tokens * 6  # the logits, the ids, and their text
    grown = long_peak - short_peak
    line(grown <= 1.15 * (cache + rest) + 8 * MEGABYTE,
         f"memory: {pages} pages of 16 tokens x {LAYERS} layers x keys and values x {KV_HEADS} x {HEAD_DIM} x 4 bytes = {cache} bytes of "
         f"cache, {rest / MEGABYTE:.0f} MB of logits and ids; the peak rose from {short_peak / MEGABYTE:.0f} to {long_peak / MEGABYTE:.0f} MB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?", default=str(ROOT / "build" / "lathe"))
    parser.add_argument("--tokens", type=int, default=POSITIONS)
    arguments = parser.parse_args()

    model = make_model()
    tokens = torch.randint(0, VOCABULARY, (arguments.tokens,), generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model.save_pretrained(folder)
        short_peak = run_lathe(arguments.program, folder, tokens[:1024].tolist())[2]
        got, lathe_seconds, long_peak = run_lathe(arguments.program, folder, tokens.tolist())
    line(got.shape == (arguments.tokens, VOCABULARY), f"{arguments.tokens} tokens: logits {got.shape}, {lathe_seconds:.0f} s")
    expected, seconds = last_rows(model, tokens)
    compare(got[-ROWS:], expected, TOLERANCE, f"transformers ({seconds:.0f} s)")
    model.model.rotary_emb.inv_freq = torch.tensor(list(frequencies()), dtype=torch.float64).float()
    expected, seconds = last_rows(model, tokens)
    compare(got[-ROWS:], expected, EXACT_TOLERANCE, f"transformers with frequencies rounded once ({seconds:.0f} s)")
    check_memory(arguments.tokens, short_peak, long_peak)
    print(f"{4 - len(failed)} passed, {len(failed)} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
