#!/usr/bin/env python3
"""Starts `lathe serve` and talks to it: with the standard library, and with the official clients where they are installed.

  usage: check_serve.py LATHE [--model M] [--only NAME...]        Closing line "N passed, N failed, N skipped".
"""
import argparse
import base64
import collections
import concurrent.futures
import http.client
import importlib
import json
import math
import os
import pathlib
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHECKS = []


class Skipped(Exception):
    """Why a check was not made."""


def installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Skipped(f"{name} is not installed") from None


def check(f):
    CHECKS.append(f)
    return f


class Server:
    """A running `lathe serve`, on a port of its own."""
    started = []

    def __init__(self, lathe, model, *options, launcher=(), dtype="float32"):
        self.log = tempfile.NamedTemporaryFile("w")
        self.process = subprocess.Popen([*launcher, lathe, "serve", "--model", f"tiny={model}", "--port", "0", "--dtype", dtype, *options],
                                        stdout=subprocess.DEVNULL, stderr=self.log)
        Server.started.append(self)
        while not (found := re.search(r"listening on http://[^:]+:(\d+)", self.text())):
            assert self.process.poll() is None, self.text()
            time.sleep(0.02)
        self.port = int(found[1])

    def text(self):
        return pathlib.Path(self.log.name).read_text()  # by an offset of its own: the server writes at the file's

    def wait_until_ready(self):
        while self.get("/health/ready")[0] != 200:
            assert self.process.poll() is None, self.text()
            time.sleep(0.05)
        return self

    def ask(self, method, path, body=None, headers=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            self.headers = dict(answer.getheaders())
            kind = answer.getheader("Content-Type", "")
            return answer.status, json.loads(text) if kind.startswith("application/json") and text else text.decode()
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.ask("GET", path, headers=headers)

    def post(self, path, body, status=200):
        found, answer = self.ask("POST", path, body)
        assert found == status, (path, body, found, answer)
        return answer

    def stream(self, path, body):
        """The events' data, and the names that they have in Anthropic's API."""
        status, text = self.ask("POST", path, {**body, "stream": True})
        assert status == 200, text
        events = [e for e in text.split("\n\n") if e and not e.startswith(":")]
        return [e.split("data: ", 1)[1] for e in events]

    def metric(self, name):
        return float(re.search(rf'^lathe_{name}{{model_name="tiny"}} (\S+)$', self.get("/metrics")[1], re.MULTILINE)[1])

    def until(self, name, value, seconds=5):
        """Waits until a metric has the value; returns the seconds that took."""
        begin = time.monotonic()
        while self.metric(name) != value:
            assert time.monotonic() - begin < seconds, (name, value, self.metric(name))
            time.sleep(0.01)
        return time.monotonic() - begin

    def memory(self, name="VmRSS"):
        return int(re.search(rf"{name}:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) * 1024

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert code == 0, (code, self.text())


def chat(text, **options):
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 12, **options}


@check
def front(s):
    """Health, models, version, errors that name the field."""
    assert s.get("/health/live")[0] == 200 and s.get("/health")[0] == 200
    models = s.get("/v1/models")[1]["data"]
    assert models[0]["id"] == "tiny" and models[0]["max_model_len"] > 0, models
    assert s.get("/v1/models/tiny")[1]["id"] == "tiny" and s.get("/v1/models/other")[0] == 404
    assert "version" in s.get("/version")[1] and s.get("/nowhere")[0] == 404 and s.get("/v1/completions")[0] == 405
    assert s.post("/v1/completions", {"model": "other", "prompt": "a"}, 404)["error"]["param"] == "model"
    for field, value in {"temperature": "hot", "logit_bias": {"1": 200}, "best_of": 0, "suffix": "x", "max_tokens": 0, "unheard_of": 1,
                         "top_p": 3, "n": 0, "stop": "", "prompt": [], "stream_options": {"include_usage": True},
                         "logprobs": -1}.items():
        error = s.post("/v1/completions", {"model": "tiny", "prompt": "a", field: value}, 400)["error"]
        assert error["param"] == field and error["type"] == "invalid_request_error", (field, error)
    for field, value in {"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "tools": [{"type": "function"}], "tool_choice": "required",
                         "response_format": {"type": "yaml"}, "top_logprobs": 3, "max_completion_tokens": 0}.items():
        assert s.post("/v1/chat/completions", chat("a", **{field: value}), 400)["error"]["param"] == field, field
    assert s.post("/v1/messages", {"messages": []}, 400)["type"] == "error"
    long = s.post("/v1/completions", {"prompt": [1] * 100000}, 400)["error"]
    assert "100000 tokens, the context is" in long["message"] and long["param"] == "prompt", long
    for body in b"", b"{", b"[]", b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 100000, b'{"prompt":' + b"[" * 100000, b'{"temperature": 1e999}':
        assert s.ask("POST", "/v1/completions", body)[0] == 400, body[:20]


@check
def chats(s):
    """Whole, streamed, alone and side by side: the same text for the same seed."""
    for options in {"temperature": 0}, {"temperature": 1.0, "seed": 7}, {"temperature": 1.0, "seed": 7, "n": 3}, {"stop": ["a", " t"], "temperature": 0}:
        body = chat("Name three colours.", **options, logprobs=True, top_logprobs=2)
        whole = s.post("/v1/chat/completions", body)
        texts = [c["message"]["content"] for c in whole["choices"]]
        for choice in whole["choices"]:
            for token in choice["logprobs"]["content"]:
                assert token["token"].encode() == bytes(token["bytes"]) or "\ufffd" in token["token"], token
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            streams = list(pool.map(lambda _: s.stream("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}), range(8)))
        for events in streams:
            assert events.pop() == "[DONE]"
            chunks = [json.loads(e) for e in events]
            assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] and not chunks[-1]["choices"]
            parts, reasons = [""] * len(texts), [None] * len(texts)
            for choice in (c for chunk in chunks for c in chunk["choices"]):
                parts[choice["index"]] += choice["delta"].get("content", "")
                reasons[choice["index"]] = choice["finish_reason"] or reasons[choice["index"]]
            assert parts == texts and reasons == [c["finish_reason"] for c in whole["choices"]], (parts, texts)
    assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, whole["usage"]


@check
def scores(s):
    """What lm-evaluation-harness needs of a prompt's log-probabilities; the same floats from the cache and in a batch."""
    texts = ["The capital of France is Paris.", "Once upon a time there was a little dog named Max. " * 4]
    ids = [s.post("/tokenize", {"prompt": t, "add_special_tokens": False})["tokens"] for t in texts]
    assert [s.post("/detokenize", {"tokens": i})["prompt"] for i in ids] == texts
    body = {"model": "tiny", "prompt": ids, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    both = s.post("/v1/completions", body)["choices"]
    for i, choice in enumerate(both):
        of = choice["logprobs"]
        lists = [of[name] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")]
        assert choice["index"] == i and {len(x) for x in lists} == {len(ids[i]) + 1}, [len(x) for x in lists]
        assert of["token_logprobs"][0] is None and of["top_logprobs"][0] is None
        greedy = 0
        for token, logprob, top in list(zip(*lists[:3]))[1:]:
            assert top[token] == logprob and max(top.values()) >= logprob
            greedy += max(top.values()) == logprob
        assert greedy > 1 and of["token_logprobs"][-1] == max(of["top_logprobs"][-1].values())
        assert choice["text"].startswith(texts[i])
        for j, (token, offset) in enumerate(zip(of["tokens"], of["text_offset"])):
            found = choice["text"][offset:offset + len(token)]
            # The last one is the model's, and may be a special token, which has no text.
            assert token.startswith("bytes:") or found == token or (j == len(ids[i]) and found == ""), (token, offset)
        alone = s.post("/v1/completions", {**body, "prompt": ids[i]})["choices"][0]
        assert alone["logprobs"] == of and alone["text"] == choice["text"]
        events = s.stream("/v1/completions", {**body, "prompt": ids[i]})
        chunks = [json.loads(e)["choices"][0] for e in events[:-1]]
        assert "".join(c["text"] for c in chunks) == choice["text"]
        assert [t for c in chunks for t in c["logprobs"]["token_logprobs"]] == of["token_logprobs"]
    nothing = s.post("/v1/completions", {**body, "max_tokens": 0, "n": 2})["choices"]
    assert [c["index"] for c in nothing] == [0, 1, 2, 3] and nothing[2]["text"] == nothing[3]["text"] == texts[1]
    assert nothing[3]["logprobs"]["token_logprobs"] == both[1]["logprobs"]["token_logprobs"][:-1]
    messages = [{"role": "user", "content": "Hi"}]
    rendered = s.post("/render", {"messages": messages})["prompt"]
    assert "Hi" in rendered and s.post("/detokenize", {"tokens": s.post("/tokenize", {"messages": messages})["tokens"]})["prompt"] == rendered
    info = s.get("/tokenizer_info")[1]
    assert {"eos_token", "bos_token", "pad_token", "chat_template"} <= set(info), info


@check
def messages(s):
    """Anthropic's shapes."""
    body = {"model": "tiny", "max_tokens": 12, "temperature": 0, "system": [{"type": "text", "text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Name a colour."}]}]}
    whole = s.post("/v1/messages", body)
    events = [json.loads(e) for e in s.stream("/v1/messages", body)]
    kinds = [e["type"] for e in events]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds
    assert "".join(e["delta"]["text"] for e in events[2:-3]) == whole["content"][0]["text"]
    usage = whole["usage"]
    assert s.post("/v1/messages/count_tokens", {k: body[k] for k in ("model", "system", "messages")})["input_tokens"] == \
        usage["input_tokens"] + usage["cache_read_input_tokens"]
    stopped = s.post("/v1/messages", {**body, "stop_sequences": [whole["content"][0]["text"][2:5]]})
    assert stopped["stop_reason"] == "stop_sequence" and stopped["stop_sequence"] == whole["content"][0]["text"][2:5], stopped
    turn = [{**body, "system": f"x-anthropic-billing-header: cc_version=2; cch={c};\nBe brief, and kind to those who ask."} for c in ("aaaaa", "bbbbb")]
    assert s.post("/v1/messages", turn[0])["content"] and s.post("/v1/messages", turn[1])["usage"]["cache_read_input_tokens"] > 16


@check
def embeddings(s):
    """Vectors of unit length, the same floats alone, side by side and as bytes; cosines of them."""
    texts = ["Once upon a time", "The dog ran.", "Once upon a time there was a girl. " * 20]
    for pooling in "mean", "last":
        together = s.post("/v1/embeddings", {"input": texts, "pooling": pooling})
        vectors = [e["embedding"] for e in together["data"]]
        alone = [s.post("/v1/embeddings", {"input": t, "pooling": pooling, "encoding_format": "base64"}) for t in texts]
        for vector, one in zip(vectors, alone):
            raw = base64.b64decode(one["data"][0]["embedding"])
            assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == vector and abs(math.hypot(*vector) - 1) < 1e-6
        ids = [s.post("/tokenize", {"prompt": t})["tokens"] for t in texts]
        assert s.post("/v1/embeddings", {"input": ids, "pooling": pooling})["data"] == together["data"]
        assert together["usage"]["total_tokens"] == sum(map(len, ids))
        cosines = s.post("/v1/similarity", {"text_1": texts[0], "text_2": texts, "pooling": pooling})["similarity"][0]
        assert all(abs(c - math.fsum(a * b for a, b in zip(vectors[0], v))) < 1e-12 for c, v in zip(cosines, vectors)), cosines
    for field, value in {"dimensions": 3, "pooling": "max", "encoding_format": "int8", "input": [], "n": 1}.items():
        assert s.post("/v1/embeddings", {"input": "a", field: value}, 400)["error"]["param"] == field, field


@check
def best_of(s):
    """The best of several are those whose tokens have the highest mean log-probability."""
    body = {"prompt": ["Once", "The dog"], "max_tokens": 5, "temperature": 1.5, "seed": 3, "ignore_eos": True}
    all_of_them = s.post("/v1/completions", {**body, "n": 6, "logprobs": 0})["choices"]
    best = s.post("/v1/completions", {**body, "n": 2, "best_of": 6})
    for i in range(2):
        ranked = sorted(all_of_them[6 * i:6 * i + 6], key=lambda c: -math.fsum(c["logprobs"]["token_logprobs"]))
        assert [c["text"] for c in ranked[:2]] == [c["text"] for c in best["choices"][2 * i:2 * i + 2]], i
    assert [c["index"] for c in best["choices"]] == [0, 1, 2, 3] and best["choices"][0]["logprobs"] is None
    assert best["usage"]["completion_tokens"] == 60
    assert s.post("/v1/completions", {**body, "best_of": 6, "stream": True}, 400)["error"]["param"] == "best_of"


def half_request(s, body):
    """A request that is sent, its answer not read."""
    data = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", s.port))
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
    return connection


def receive(connection, end):
    """What comes until `end` has come."""
    connection.settimeout(20)
    text = b""
    while end not in text:
        piece = connection.recv(1 << 16)
        assert piece, text[-1000:]
        text += piece
    return text


@check
def leaving(s):
    """A client that leaves, streaming or not, frees its pages at once."""
    for stream in True, False:
        cancelled = s.metric("requests_cancelled_total")
        connection = half_request(s, {"prompt": "Once", "max_tokens": 400, "ignore_eos": True, "stream": stream})
        while s.metric("sequences_running") == 0:
            time.sleep(0.005)
        if stream:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()
        print(f"    pages are free {s.until('cache_pages_used', 0) * 1e3:.0f} ms after a client has left")
        s.until("requests_cancelled_total", cancelled + 1)  # it did not end by itself


@check
def load(s):
    """32 clients, mixed requests with shared beginnings, a third of them left midway: the others equal the same request alone."""
    opening = "Once upon a time there was a little dog who lived in a big house with a garden. " * 3
    asked = [{"prompt": opening + "He" * (i % 4), "max_tokens": 4 + i % 9, "seed": i, "temperature": i % 4 / 3, "n": 1 + i % 2} for i in range(12)]
    alone = [[c["text"] for c in s.post("/v1/completions", body)["choices"]] for body in asked]
    times = []

    def ask(i):
        body = asked[i % 12]
        if i % 3 == 2:
            connection = half_request(s, {**body, "max_tokens": 200, "ignore_eos": True, "stream": i % 2 == 0})
            time.sleep(0.02 * (i % 7))
            return connection.close()
        begin = time.monotonic()
        answer = s.post("/v1/completions", body)
        times.append(time.monotonic() - begin)
        assert [c["text"] for c in answer["choices"]] == alone[i % 12], i
        return None

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(180)))
    s.until("sequences_running", 0)
    print(f"    120 answers, half of them within {sorted(times)[60]:.2f} s, all within {max(times):.2f} s; none refused or otherwise than alone")


@check
def crowd(s):
    """A thousand slow connections, some of which send on, byte by byte; a body of 100 MB; others are unharmed."""
    answer = s.post("/v1/chat/completions", chat("Hello", temperature=0))
    # A pool of 32 KiB a connection, and as much again for what belongs to it: less than the body below.
    before, crowd, most = s.memory(), [], 1000 * 2 * 32768
    for i in range(1000):
        connection = socket.create_connection(("127.0.0.1", s.port))
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b" " * 1000 if i % 2 else b"POST /v1")
        crowd.append(connection)
    slowest = 0
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        load = [pool.submit(s.post, "/v1/chat/completions", chat("Hello", temperature=0)) for _ in range(32)]
        while not all(f.done() for f in load):
            for connection in crowd[:50]:
                connection.sendall(b" " if connection is not crowd[0] else b"/")
            begin = time.monotonic()
            assert s.get("/health")[0] == 200
            slowest = max(slowest, time.monotonic() - begin)
    assert all(f.result()["choices"] == answer["choices"] for f in load)
    print(f"    health within {slowest * 1e3:.0f} ms; {(s.memory() - before) / 1e6:.0f} MB for 1,000 connections")
    assert s.memory() - before < most
    for connection in crowd:
        connection.close()
    status, error = s.ask("POST", "/v1/completions", b" " * 100_000_000)
    assert status == 413, error
    assert s.memory() - before < most


@check
def openai_client(s):
    openai = installed("openai")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="none", max_retries=0)
    assert client.models.list().data[0].id == "tiny"
    asked = dict(model="tiny", messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
                 max_completion_tokens=10, temperature=0)
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    assert whole.choices[0].logprobs.content[0].top_logprobs[0].bytes
    parts = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = list(parts)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    with client.chat.completions.stream(**asked, stop=text[3:6]) as stream:  # by length, the client raises
        assert stream.get_final_completion().choices[0].message.content == text[:text.index(text[3:6])]
    legacy = client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=2, logprobs=1, echo=True, n=2)
    assert [c.index for c in legacy.choices] == [0, 1, 2, 3] and legacy.choices[0].logprobs.token_logprobs[-1] <= 0
    vectors = [client.embeddings.create(model="tiny", input="Hello", **options).data[0].embedding  # as base64 by default
               for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"})]
    assert list(vectors[0]) == vectors[1] and isinstance(vectors[2], str), vectors
    try:
        client.chat.completions.create(**{**asked, "temperature": -1})
    except openai.BadRequestError as e:
        assert e.param == "temperature", e
    else:
        raise AssertionError("temperature -1 was accepted")


@check
def anthropic_client(s):
    anthropic = installed("anthropic")
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key="none", max_retries=0)
    asked = dict(model="tiny", max_tokens=10, extra_body={"temperature": 0}, system="Be brief.", messages=[{"role": "user", "content": "Hello"}])
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens
    counted = client.messages.count_tokens(model="tiny", system="Be brief.", messages=asked["messages"]).input_tokens
    assert counted == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def keys_and_origins(lathe, model):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("first\nsecond\n")
        file.flush()
        s = Server(lathe, model, "--api-key-file", file.name, "--cors-origin", "https://page.example").wait_until_ready()
    for headers, status in [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Bearer second"}, 200),
                            ({"x-api-key": "first"}, 200), ({"x-api-key": "first", "Origin": "https://page.example"}, 200),
                            ({"x-api-key": "first", "Origin": "https://other.example"}, 403)]:
        assert s.get("/v1/models", headers)[0] == status, (headers, status)
        assert s.get("/metrics", headers)[0] == status
    status, _ = s.ask("OPTIONS", "/v1/completions", headers={"Origin": "https://page.example"})
    assert status == 204 and s.headers["Access-Control-Allow-Origin"] == "https://page.example", s.headers
    assert s.get("/health")[0] == 200
    s.close()


LONG = {"prompt": "Once", "max_tokens": 400, "ignore_eos": True, "n": 60}


def queue(lathe, model):
    """One sequence at a time, two may wait: who waits gets headers at once and a comment line a second, further ones 429."""
    s = Server(lathe, model, "--max-sequences", "1", "--max-queue", "2").wait_until_ready()
    first = half_request(s, LONG)
    s.until("sequences_running", 1)
    s.post("/v1/completions", LONG, 429)
    assert s.headers["Retry-After"] == "1"
    first.close()
    s.until("sequences_running", 0)
    first = half_request(s, {**LONG, "n": 1, "max_tokens": 4000})  # some seconds on any machine; it is not waited for
    s.until("sequences_running", 1)
    waiting = half_request(s, {**LONG, "n": 1, "max_tokens": 2, "stream": True})
    assert receive(waiting, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    receive(waiting, b":\n\n")
    first.close()
    assert b"finish_reason\":\"length" in receive(waiting, b"[DONE]")
    waiting.close()
    s.close()


def deadline(lathe, model):
    """An answer that takes longer than --request-timeout ends, and its pages are free."""
    s = Server(lathe, model, "--request-timeout", "0.5").wait_until_ready()
    s.post("/v1/completions", LONG, 504)
    assert "timeout_error" in s.stream("/v1/completions", LONG)[-1]
    s.until("cache_pages_used", 0)
    s.close()


def enough_memory(lathe, model):
    """A server that is ready has its memory: with little more than it has then, the largest work of every kind fails nowhere."""
    s = Server(lathe, model, "--max-sequences", "16", "--max-batch-tokens", "256", "--kv-memory", "64MiB", "--max-queue", "9999", "--chat-template",
               str(ROOT / "tests/serve/tools.jinja")).wait_until_ready()
    for _ in range(8):
        s.post("/tokenize", {"prompt": "a"})  # every thread has begun to take memory
    # 64 MiB are set aside for logits of scored prompts; the rest is for bodies, answers and grammars.
    limit = s.memory("VmData") + (64 + 48 << 20)
    resource.prlimit(s.process.pid, resource.RLIMIT_DATA, (limit, limit))
    longest = s.get("/v1/models/tiny")[1]["max_model_len"]
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}},
              "required": ["city", "days"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    ids = lambda seed, count: [(seed * 7919 + i * 31) % 300 + 3 for i in range(count)]
    greedy = {"temperature": 0, "ignore_eos": True}
    work = [("/v1/completions", {"prompt": [ids(i, 120) for i in range(32)], "max_tokens": 4, **greedy}),
            ("/v1/completions", {"prompt": ids(1, min(longest, 2000) - 20), "max_tokens": 8, "n": 8, "logprobs": 5, "temperature": 1}),
            ("/v1/completions", {"prompt": [ids(i, 250) for i in range(16)], "max_tokens": 1, "echo": True, "logprobs": 5, **greedy}),
            ("/v1/completions", {"prompt": ids(2, 20), "max_tokens": 3, "n": 100, "best_of": 128, "presence_penalty": 1, "logit_bias": {"5": 9}}),
            ("/v1/embeddings", {"input": [ids(i, 100) for i in range(64)]}),
            ("/v1/similarity", {"text_1": [ids(i, 50) for i in range(20)], "text_2": [ids(i, 60) for i in range(20)]}),
            ("/v1/chat/completions", chat("Weather?", n=8, tools=[tool], tool_choice="required", max_tokens=60)),
            ("/v1/chat/completions", chat("Weather?", n=8, logprobs=True, top_logprobs=20, max_tokens=60,
                                          response_format={"type": "json_schema", "json_schema": {"name": "w", "schema": schema}})),
            ("/v1/inspect", {"what": "logit_lens", "tokens": ids(3, 400), "positions": [0, 32]})]
    with concurrent.futures.ThreadPoolExecutor(len(work)) as pool:
        for (path, _), answer in [(one, pool.submit(s.ask, "POST", *one, timeout=600)) for one in work]:
            assert answer.result()[0] == 200, (path, answer.result())
    assert s.metric("requests_failed_total") == 0
    s.until("cache_pages_used", 0)
    s.close()
    assert "memory" not in s.text().split("ready")[1], s.text()


def draining(lathe, model):
    """SIGTERM: answers under way are finished, new requests refused."""
    s = Server(lathe, model).wait_until_ready()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(s.post, "/v1/completions", {"prompt": "Once", "max_tokens": 200, "ignore_eos": True}) for _ in range(4)]
        s.until("sequences_running", 4)
        s.process.send_signal(signal.SIGTERM)
        while (status := s.get("/health/ready")[0]) == 200:
            time.sleep(0.005)
        assert status == 503, status
        s.post("/v1/completions", {"prompt": "a"}, 503)
        assert all(a.result()["usage"]["completion_tokens"] == 200 for a in answers)
    s.close()


def upload(s, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    form = (f'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\n'
            f'Content-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n{text}\r\n--x--\r\n')
    status, file = s.ask("POST", "/v1/files", form.encode(), {"Content-Type": "multipart/form-data; boundary=x"})
    assert status == 200 and s.ask("GET", f"/v1/files/{file['id']}/content")[1] == text, file
    return file["id"]


def new_batch(s, file, endpoint="/v1/completions"):
    return s.post("/v1/batches", {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"})["id"]


def wait_for_batch(s, batch, status="completed"):
    begin = time.monotonic()
    while (found := s.get(f"/v1/batches/{batch}")[1])["status"] in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() - begin < 300, found
        time.sleep(0.05)
    assert found["status"] == status, found
    return found


def result_lines(s, file):
    return [json.loads(line) for line in s.get(f"/v1/files/{file}/content")[1].splitlines()]


def official_batch(s, lines, body):
    """The same by the official client."""
    try:
        openai = installed("openai")
    except Skipped as why:
        return print(f"    not by the official client: {why}")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="none", max_retries=0)
    file = client.files.create(file=("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h", metadata={"of": "me"})
    while batch.status not in ("completed", "failed"):
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    assert batch.request_counts.completed == len(lines) and batch.metadata == {"of": "me"}, batch
    line = json.loads(client.files.content(batch.output_file_id).text.splitlines()[0])
    assert line["response"]["body"]["choices"][0]["text"] == s.post("/v1/completions", body)["choices"][0]["text"]
    assert client.files.retrieve(file.id).bytes == file.bytes and client.files.delete(file.id).deleted
    assert [b.id for b in client.batches.list(limit=1)][0] == batch.id and batch.output_file_id in [f.id for f in client.files.list()]
    return None


def batches(lathe, model):
    """A file is checked whole first; its requests are answered as they are alone; a killed server goes on where it was."""
    with tempfile.TemporaryDirectory() as folder:
        s = Server(lathe, model, "--data-dir", folder, "--max-sequences", "8").wait_until_ready()
        bodies = [{"prompt": "Once upon", "max_tokens": 12, "seed": i, "temperature": 1} for i in range(24)]
        lines = [{"custom_id": f"r{i}", "method": "POST", "url": "/v1/completions", "body": b} for i, b in enumerate(bodies)]
        bad = upload(s, [lines[0], lines[0], {**lines[1], "url": "/v1/embeddings"}, {**lines[2], "method": "GET"}, {"custom_id": "x"}])
        errors = wait_for_batch(s, new_batch(s, bad), "failed")["errors"]["data"]
        assert [(e["line"], e["code"]) for e in errors] == [(2, "duplicate_custom_id"), *((i, "invalid_request") for i in (3, 4, 5))], errors
        assert s.ask("DELETE", f"/v1/files/{bad}")[1]["deleted"] and s.get(f"/v1/files/{bad}")[0] == 404
        lines[7]["body"] = {"prompt": "a", "temperature": "hot"}
        file = upload(s, lines)
        batch = new_batch(s, file)
        written = pathlib.Path(folder, "batches", f"{batch}.output")
        begin = time.monotonic()
        while not written.exists() or len(done := written.read_text().splitlines()) < 9:
            assert time.monotonic() - begin < 300, s.text()
            time.sleep(0.01)
        assert s.ask("DELETE", f"/v1/files/{file}")[0] == 409
        s.process.kill()
        s.process.wait()
        done = written.read_text().splitlines()
        print(f"    killed when {len(done)} of 24 requests were answered")
        written.write_text(written.read_text() + '{"half a li')
        s = Server(lathe, model, "--data-dir", folder, "--max-sequences", "8").wait_until_ready()
        found = wait_for_batch(s, batch)
        assert found["request_counts"] == {"total": 24, "completed": 23, "failed": 1}, found
        output = result_lines(s, found["output_file_id"])
        assert [json.dumps(x) for x in output[:len(done)]] == [json.dumps(json.loads(x)) for x in done]
        assert sorted(x["custom_id"] for x in output) == sorted(f"r{i}" for i in range(24) if i != 7)
        for line in output[::7]:
            alone = s.post("/v1/completions", bodies[int(line["custom_id"][1:])])
            assert line["response"]["status_code"] == 200 and line["response"]["body"]["choices"] == alone["choices"]
        failed, = result_lines(s, found["error_file_id"])
        assert failed["custom_id"] == "r7" and failed["response"]["status_code"] == 400, failed
        assert failed["response"]["body"]["error"]["param"] == "temperature", failed
        endless = new_batch(s, upload(s, [{**line, "body": {**LONG, "n": 4, "max_tokens": 60}} for line in lines]))
        s.until("sequences_running", 8, 20)
        assert s.post(f"/v1/batches/{endless}/cancel", {})["status"] == "cancelling"
        wait_for_batch(s, endless, "cancelled")
        listed = s.get("/v1/batches?limit=2")[1]
        assert len(listed["data"]) == 2 and listed["has_more"], listed
        rest = s.get(f"/v1/batches?after={listed['last_id']}")[1]
        assert len(rest["data"]) == 1 and not rest["has_more"] and "409" not in str(rest), rest
        official_batch(s, lines[:3], bodies[0])
        s.close()


def ends(s):
    """The server that was asked all this ends when it is told to."""
    s.close()


def main(checks, alone=(), options=()):
    """`checks` ask one server that has these options, those that stand `alone` start their own."""
    names = [f.__name__ for f in (*checks, *alone)]
    parser = argparse.ArgumentParser()
    parser.add_argument("lathe")
    parser.add_argument("--model", default=str(ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="NAME")
    arguments = parser.parse_args()
    counts = collections.Counter()

    def run(f, *given):
        begin, outcome, why = time.monotonic(), "passed", ""
        try:
            f(*given)
            if f in checks:
                server.until("cache_pages_used", 0)
        except Skipped as reason:
            outcome, why = "skipped", f" ({reason})"
        except Exception:
            traceback.print_exc()
            outcome = "failed"
        counts[outcome] += 1
        print(f"{dict(passed='ok  ', failed='FAIL', skipped='SKIP')[outcome]} {f.__name__}{why}: {time.monotonic() - begin:.1f} s", flush=True)

    try:
        if chosen := [f for f in checks if f.__name__ in arguments.only]:
            server = Server(arguments.lathe, arguments.model, *options)
            assert server.get("/health/live")[0] == 200
            server.wait_until_ready()
            for f in chosen:
                run(f, server)
            run(ends, server)
        for f in alone:
            if f.__name__ in arguments.only:
                run(f, arguments.lathe, arguments.model)
    finally:
        for s in Server.started:
            if s.process.poll() is None:
                s.process.kill()
            print(s.text(), file=sys.stderr, end="")
        print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return counts["failed"] > 0


if __name__ == "__main__":
    sys.exit(main(CHECKS, (keys_and_origins, queue, deadline, enough_memory, draining, batches)))
