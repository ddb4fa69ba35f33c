#!/usr/bin/env python3
"""Decoding of 16 sequences at once by `lathe serve`, beside llama.cpp's batched decoding of the same GGUF file, in turns.

  usage: check_throughput.py LATHE MODEL.gguf [--sequences 16] [--prompt 64] [--tokens 128] [--threads 2] [--rounds 5] [--least R]

llama.cpp comes as the Python package llama-cpp-python; its better median, with flash attention on and off, counts. The
server is asked over HTTP as a client would ask it. Both are timed from when each sequence has its first token until
each has its last. With --least, exit code 1 where the ratio of the medians is below it.
"""
import argparse
import ctypes
import http.client
import json
import statistics
import sys
import threading
import time

from check_serve import Server


class LlamaCpp:
    def __init__(self, library, options, flash):
        self.l, self.o = library, options
        self.model = library.llama_model_load_from_file(options.model.encode(), library.llama_model_default_params())
        p = library.llama_context_default_params()
        p.n_ctx = options.sequences * (options.prompt + options.tokens + 8)
        p.n_seq_max, p.n_batch, p.n_ubatch = options.sequences, 2048, 512
        p.n_threads = p.n_threads_batch = options.threads
        p.flash_attn_type = flash
        self.context = library.llama_init_from_model(self.model, p)
        self.vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.model))

    def decode(self, rows):
        """rows: (token, position, sequence), all of whose logits are asked for."""
        batch = self.l.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, position, 1, sequence, 1
        failed = self.l.llama_decode(self.context, batch)
        self.l.llama_synchronize(self.context)
        self.l.llama_batch_free(batch)
        if failed:
            sys.exit(f"llama_decode: {failed}")

    def tokens_per_second(self):
        o = self.o
        self.l.llama_memory_clear(self.l.llama_get_memory(self.context), True)
        token = lambda i, s: (7919 * i + 104729 * s + 11) % self.vocabulary
        for s in range(o.sequences):
            self.decode([(token(i, s), i, s) for i in range(o.prompt)])
        begin = time.perf_counter()
        for i in range(o.prompt, o.prompt + o.tokens - 1):
            self.decode([(token(i, s), i, s) for s in range(o.sequences)])
        return o.sequences * (o.tokens - 1) / (time.perf_counter() - begin)


class Lathe:
    def __init__(self, options):
        self.o = options
        self.server = Server(options.lathe, options.model, "--threads", str(options.threads), dtype="auto").wait_until_ready()
        self.round = 0

    def stream(self, s, times):
        ids = [(7919 * i + 104729 * s + 31 * self.round + 11) % 1000 + 100 for i in range(self.o.prompt)]
        body = dict(prompt=ids, max_tokens=self.o.tokens, ignore_eos=True, stream=True, temperature=0, logprobs=0)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        connection.request("POST", "/v1/completions", json.dumps(body))
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                times[s].append(time.perf_counter())

    def tokens_per_second(self):
        self.round += 1  # another prompt, which no cache holds
        times = [[] for _ in range(self.o.sequences)]
        threads = [threading.Thread(target=self.stream, args=(s, times)) for s in range(self.o.sequences)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        begin, end = max(t[0] for t in times), max(t[-1] for t in times)
        return sum(sum(at > begin for at in t) for t in times) / (end - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lathe")
    parser.add_argument("model")
    for name, value in dict(sequences=16, prompt=64, tokens=128, threads=2, rounds=5).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--least", type=float, default=0.0)
    options = parser.parse_args()
    try:
        import llama_cpp as library
    except ImportError:
        sys.exit("llama-cpp-python is not installed: pip install llama-cpp-python")
    quiet = library.llama_log_callback(lambda *_: None)
    library.llama_log_set(quiet, ctypes.c_void_p(0))
    library.llama_backend_init()
    lathe, peers = Lathe(options), [LlamaCpp(library, options, flash) for flash in (0, 1)]
    ours, theirs = [], [[], []]
    try:
        for _ in range(options.rounds):
            ours.append(lathe.tokens_per_second())
            for peer, figures in zip(peers, theirs):
                figures.append(peer.tokens_per_second())
    finally:
        lathe.server.close()
    best = max(statistics.median(f) for f in theirs)
    ratio = statistics.median(ours) / best
    print(f"{options.sequences} sequences: llama.cpp {best:.0f}, lathe {statistics.median(ours):.0f} tokens/s, ratio {ratio:.2f}")
    sys.exit(ratio < options.least)


if __name__ == "__main__":
    main()
