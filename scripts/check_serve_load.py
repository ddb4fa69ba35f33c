#!/usr/bin/env python3
"""Mixed load on `lathe serve` for minutes: every answer has its status, and resident memory is flat.

  usage: check_serve_load.py LATHE [--model M] [--minutes N]        Closing line "N passed, N failed".
"""
import argparse
import collections
import concurrent.futures
import json
import random
import socket
import statistics
import time

from check_serve import ROOT, Server


def mixed_request(i, pick):
    """One of all kinds of requests: an endpoint, and its body. Every fourth begins as others do."""
    ids = [3 + (7 * i + 11 * j) % 50 for j in range(pick.randrange(1, 120))]
    text = "Once upon a time there was a little dog. " * pick.randrange(1, 4) + "He saw a ball. " * (i % 4)
    sampling = {"temperature": pick.choice((0, 1)), "seed": i, "max_tokens": pick.randrange(1, 40), "ignore_eos": True}
    return pick.choice([
        ("/v1/completions", {"prompt": text, **sampling, "n": pick.randrange(1, 4), "stream": i % 2 == 0}),
        ("/v1/completions", {"prompt": ids, **sampling, "echo": True, "logprobs": 2}),
        ("/v1/completions", {"prompt": text, **sampling, "best_of": 3, "stop": ["ball", " the"], "logit_bias": {"5": -100}}),
        ("/v1/completions", {"model": "dynamic", "prompt": ids[:40], **sampling, "stream": i % 2 == 0}),
        ("/v1/embeddings", {"input": [text, ids]} if i % 2 else {"input": ids, "pooling": "last", "encoding_format": "base64"}),
        ("/v1/similarity", {"text_1": text, "text_2": ["a", "b"]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}], **sampling, "stream": i % 2 == 0}),
        ("/v1/responses", {"input": text, "max_output_tokens": 10, "store": False}),
        ("/v1/messages", {"messages": [{"role": "user", "content": text}], "max_tokens": 10, "stream": i % 2 == 0}),
        ("/tokenize", {"prompt": text}),
        ("/detokenize", {"tokens": ids}),
        ("/v1/completions", {"prompt": text, "temperature": "hot"}),
    ])


def endurance(lathe, model, minutes):
    """Mixed load for minutes, a quarter of it left midway, dynamic rope too: resident memory is flat after a third of the time."""
    s = Server(lathe, model, "--model", f"dynamic={ROOT / 'tests/goldens/llama_dynamic'}", "--max-sequences", "16", "--kv-memory", "128MiB").wait_until_ready()
    begin, end = time.monotonic(), time.monotonic() + 60 * minutes
    counts, memory = collections.Counter(), []

    def client(number):
        pick = random.Random(number)
        i = number
        while time.monotonic() < end:
            i += 12
            path, body = mixed_request(i, pick)
            if pick.randrange(4) == 0:
                data = json.dumps(body).encode()
                connection = socket.create_connection(("127.0.0.1", s.port))
                connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(data), data))
                time.sleep(pick.random() * 0.05)
                connection.close()
                counts["left"] += 1
                continue
            status, answer = s.ask("POST", path, body)
            assert status == (400 if body.get("temperature") == "hot" else 200) or (status == 400 and "template" in str(answer)), (path, status, answer)
            counts[path] += 1

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        clients = [pool.submit(client, n) for n in range(12)]
        while time.monotonic() < end and not any(c.done() and c.exception() for c in clients):
            time.sleep(min(2, minutes * 6))
            memory.append(s.memory())
        for c in clients:
            c.result()
    s.until("cache_pages_used", 0)
    third = len(memory) // 3
    # Its peaks are those of a moment's batch, and more of them are seen the longer one looks.
    early, late = statistics.median(memory[third:2 * third]), statistics.median(memory[2 * third:])
    print(f"    {sum(counts.values())} requests in {time.monotonic() - begin:.0f} s: {dict(counts)}")
    print(f"    memory: {memory[0] / 1e6:.1f} MB at first, {early / 1e6:.1f} MB in the second third, {late / 1e6:.1f} MB in the last")
    assert late < early + max(4e6, 0.02 * early), memory
    s.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lathe")
    parser.add_argument("--model", default=str(ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--minutes", type=float, default=5)
    arguments = parser.parse_args()
    try:
        endurance(arguments.lathe, arguments.model, arguments.minutes)
        print("1 passed, 0 failed")
    except Exception:
        print("".join(s.text() for s in Server.started) + "0 passed, 1 failed", flush=True)
        raise
    finally:
        for s in Server.started:
            s.process.kill()


if __name__ == "__main__":
    main()
