#!/usr/bin/env python3
"""torch's part of scripts/gpu_check.py, each a child process that prints one JSON value as its last line.

    gpu_torch.py ceilings | kernels | parity FOLDER | model FOLDER | inference FOLDER | training      [--toy]

Runs on the GPU, with --toy on whatever there is and at sizes that take no time. The shapes of `kernels` are those of
tests/bench/bench_cuda.cpp, and are found again by their names.
"""
import argparse, json, os, statistics, time

import torch
import torch.nn.functional as F

TOY = False
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def size(real, toy):
    return toy if TOY else real


def synchronise():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def floats(*shape, dtype=torch.float32):
    return torch.randn(*shape, device=DEVICE, dtype=dtype)


def seconds(call, calls):
    start = time.perf_counter()
    for i in range(calls):
        call(i)
    synchronise()
    return (time.perf_counter() - start) / calls


def median_seconds(call):
    """As bench_cuda times: rounds of some 20 ms, the median of seven."""
    first = seconds(call, 1)
    if TOY:
        return first
    calls = int(min(max(0.02 / seconds(call, 3), 3), 2000))
    return statistics.median(seconds(call, calls) for _ in range(7))


def ceilings():
    """What this device does: bytes read and written by a copy, operations of the library's product, a launch that adds to one element."""
    n, m = size(1 << 30, 1 << 16), size(8192, 64)
    source, target, tiny = torch.zeros(n, dtype=torch.uint8, device=DEVICE), torch.empty(n, dtype=torch.uint8, device=DEVICE), floats(1)
    a, b = floats(m, m, dtype=torch.bfloat16), floats(m, m, dtype=torch.bfloat16)
    return dict(copy_gb_s=2 * n / median_seconds(lambda i: target.copy_(source)) / 1e9,
                gemm_bf16_tflop_s=2 * m**3 / median_seconds(lambda i: a @ b) / 1e12,
                launch_microseconds=1e6 * median_seconds(lambda i: tiny.add_(1)))


def kernels():
    found = []
    line = lambda kernel, shape, call: found.append(dict(kernel=kernel, shape=shape, microseconds=1e6 * median_seconds(call)))
    rows, n = size(16384, 3), size(4096, 64)
    x, w = floats(rows, n), floats(n)
    line("rms_norm", f"{rows} x {n}", lambda i: F.rms_norm(x, (n,), w, 1e-6))
    n = size(8192, 64)
    a, b = floats(n, n, dtype=torch.bfloat16), floats(n, n, dtype=torch.bfloat16)
    line("gemm_bf16", f"{n} x {n} x {n}", lambda i: a @ b.T)

    heads, kv_heads, d = size(16, 2), size(8, 1), size(128, 16)
    sequences, length = size(8, 2), size(1024, 20)
    shape = f"{sequences} x {length}, {heads} heads of {d}, {kv_heads} for keys"
    q, k, v = (floats(sequences, h, length, d, dtype=torch.bfloat16).requires_grad_() for h in (heads, kv_heads, kv_heads))
    attend = lambda q, k, v, **how: F.scaled_dot_product_attention(q, k, v, scale=0.1, enable_gqa=True, **how)
    with torch.no_grad():
        line("attention_bf16", shape, lambda i: attend(q, k, v, is_causal=True))
    out = attend(q, k, v, is_causal=True)
    dout = torch.randn_like(out)
    line("attention_backward_bf16", shape, lambda i: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
    sequences, length = size(64, 3), size(2048, 40)
    q, k, v = (floats(sequences, h, t, d, dtype=torch.bfloat16) for h, t in ((heads, 1), (kv_heads, length), (kv_heads, length)))
    line("paged_decode_bf16", f"{sequences} x {length}, {heads} heads of {d}, {kv_heads} for keys", lambda i: attend(q, k, v))

    n, k = size(12288, 48), size(4096, 256)
    weights = [floats(n, k, dtype=torch.bfloat16) for _ in range(size(5, 1))]
    for m in (1, 8, size(512, 33)):
        x = floats(m, k, dtype=torch.bfloat16)
        call = lambda i: F.linear(x, weights[i % len(weights)])
        for dtype in ("bf16", "q8_0", "q4_0", "q4_k"):  # torch has no product of GGUF's blocks: its bf16 stands beside each
            line(f"linear_{dtype}", f"{m} x {n} x {k}", call)
    return found


def qwen3(**sizes):
    import transformers
    torch.manual_seed(0)
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes))


def parity(folder):
    """A tiny model and the logits of 40 tokens, which lathe computes as well."""
    model = qwen3(vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                  head_dim=16, max_position_embeddings=128).eval()
    model.save_pretrained(folder)
    tokens = torch.randint(3, 97, (40,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(tokens[None]).logits[0].float()
    return dict(tokens=tokens.tolist(), logits=logits.flatten().tolist())


def model(folder):
    """Seeded weights of Qwen3-0.6B's shape, in bf16."""
    made = qwen3(vocab_size=size(151936, 512), hidden_size=size(1024, 64), intermediate_size=size(3072, 96), num_hidden_layers=size(28, 2),
                 num_attention_heads=size(16, 4), num_key_value_heads=size(8, 2), head_dim=size(128, 16), max_position_embeddings=40960, rope_theta=1e6)
    made.to(torch.bfloat16).save_pretrained(folder)
    return sum(p.numel() for p in made.parameters())


@torch.no_grad()
def inference(folder, batches, prompt, new, prefill):
    """Tokens a second of greedy decoding by batch, and of a prompt's prefill, each after an untimed round."""
    import transformers
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(DEVICE).eval()

    def decode(batch):
        ids = torch.randint(3, loaded.config.vocab_size, (batch, prompt), device=DEVICE)
        for round in range(2):
            out = loaded(ids, use_cache=True, logits_to_keep=1)
            synchronise()
            start = time.perf_counter()
            for _ in range(new - 1):
                out = loaded(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
            synchronise()
        return batch * (new - 1) / (time.perf_counter() - start)

    ids = torch.randint(3, loaded.config.vocab_size, (1, prefill), device=DEVICE)
    return dict(decode={str(b): decode(b) for b in batches}, prefill=prefill / median_seconds(lambda i: loaded(ids, logits_to_keep=1)))


def training(vocabulary, width, layers, heads, context, batch, steps):
    """Tokens a second of GPT-2 of these sizes: bf16 products, f32 weights, fused AdamW, clipping."""
    import transformers
    config = transformers.GPT2Config(vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=heads, n_positions=context,
                                     resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    gpt2 = transformers.GPT2LMHeadModel(config).to(DEVICE).train()
    optimizer = torch.optim.AdamW(gpt2.parameters(), lr=1e-3, fused=DEVICE == "cuda")
    ids = torch.randint(0, vocabulary, (batch, context + 1), device=DEVICE)

    def step(i):
        with torch.autocast(DEVICE, torch.bfloat16):
            logits = gpt2(ids[:, :-1], use_cache=False).logits
            loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt2.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    synchronise()
    return batch * context / statistics.median(seconds(step, 1) for _ in range(steps))


def main():
    global TOY
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ceilings", "kernels", "parity", "model", "inference", "training"))
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--sizes", type=json.loads, default={}, help="arguments of inference and training")
    options = parser.parse_args()
    TOY = options.toy
    if TOY:
        torch.set_num_threads(min(2, os.cpu_count()))
    torch.manual_seed(0)
    arguments = [options.folder] if options.folder else []
    print(json.dumps(globals()[options.what](*arguments, **options.sizes)))


if __name__ == "__main__":
    main()
