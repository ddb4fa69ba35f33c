#!/usr/bin/env python3
"""Starts servers as they are deployed: several models, adapters by request, options in a file, replicas behind nginx (deploy/), and
processes that share a model out. What a check needs and this machine lacks, it skips.

  usage: check_deployment.py LATHE [--model M] [--only NAME...]        Closing line "N passed, N failed, N skipped".
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from check_serve import ROOT, Server, Skipped, half_request, main, receive

GOLDEN = str(ROOT / "tests/goldens/phi3")  # no tokenizer: it takes ids
ADAPTER = ROOT / "tests/goldens/adapters/phi3"


def scored(s, model, prompt=range(3, 40)):
    """The ids and log-probabilities of an answer to ids."""
    body = {"model": model, "prompt": list(prompt), "max_tokens": 12, "temperature": 1, "seed": 3, "logprobs": 2, "ignore_eos": True}
    of = s.post("/v1/completions", body)["choices"][0]["logprobs"]
    return of["tokens"], of["token_logprobs"]


def models_and_adapters(lathe, _):
    """Several models, and adapters by request: in one batch as alone, with the floats of the model that has the adapter alone."""
    with tempfile.TemporaryDirectory() as folder:
        other = pathlib.Path(folder) / "other"
        shutil.copytree(ADAPTER, other)
        config = json.loads((other / "adapter_config.json").read_text())
        (other / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 7 * config["lora_alpha"]}))
        want = {}
        for name, options in {"tiny": [], "one": ["--adapter", str(ADAPTER)], "two": ["--adapter", str(other)]}.items():
            s = Server(lathe, GOLDEN, *options).wait_until_ready()
            want[name] = scored(s, "tiny")
            s.close()
        assert want["tiny"] != want["one"] != want["two"] != want["tiny"]
        second = str(ROOT / "tests/goldens/llama_untied_gqa")
        s = Server(lathe, GOLDEN, "--model", f"second={second}", "--adapter", f"one={ADAPTER}", "--adapter", f"two={other}", "--kv-memory", "1MiB")
        s.wait_until_ready()
    listed = {m["id"]: m for m in s.get("/v1/models")[1]["data"]}
    assert list(listed) == ["tiny", "one", "two", "second"] and listed["two"]["parent"] == "tiny" and listed["tiny"]["adapters"] == ["one", "two"]
    assert s.post("/v1/completions", {"model": "three", "prompt": [1]}, 404)["error"]["code"] == "model_not_found"
    assert len({str(scored(s, name, range(3, 20))) for name in listed}) == 4
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [name for name in want for _ in range(4)]
        for name, found in zip(asked, pool.map(lambda name: scored(s, name), asked)):
            assert found == want[name], (name, found, want[name])
    assert 'lathe_requests_accepted_total{model_name="second"} 1' in s.get("/metrics")[1]
    s.close()


def options_of_the_server(lathe, _):
    """Options in a file, names of metrics, usage without asking, the cache's size."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("always-usage: true\nmetrics-names: vllm\nkv-memory: 1MiB\nmax-sequences: 3\ncors-origin: [https://a.example, https://b.example]\n")
        file.flush()
        s = Server(lathe, GOLDEN, "--config", file.name, "--max-sequences", "4").wait_until_ready()
        for text, message in {"model: x\nmax-sequence: 1\n": "did you mean max-sequences?", "port: [1, {}]\n": "a list of strings",
                              "port: 1\nport: 2\n": "twice", "- port\n": "expected keys and values", "port: many\n": "expected an integer"}.items():
            file.seek(0)
            file.truncate()
            file.write(text)
            file.flush()
            wrong = subprocess.run([lathe, "serve", "--config", file.name, "--model", "none"], capture_output=True, text=True, check=False)
            assert wrong.returncode != 0 and message in wrong.stderr, (text, wrong.stderr)
    assert json.loads(s.stream("/v1/completions", {"prompt": [5, 6], "max_tokens": 3, "ignore_eos": True})[-2])["usage"]["completion_tokens"] == 3
    assert s.get("/v1/models", {"Origin": "https://b.example"})[0] == 200
    text = s.get("/metrics")[1]
    for line in ['vllm:generation_tokens_total{model_name="tiny"} 3', 'vllm:time_to_first_token_seconds_count{model_name="tiny"} 1',
                 'vllm:kv_cache_usage_perc{model_name="tiny"} 0', 'vllm:request_success_total{model_name="tiny",finished_reason="length"} 1']:
        assert line in text, (line, text)
    s.close()
    s = Server(lathe, GOLDEN, "--max-batch-tokens", "64").wait_until_ready()
    text = s.get("/metrics")[1]
    shown = set(re.findall(r"lathe_[a-z_]+", (ROOT / "deploy/grafana.json").read_text()))
    assert len(shown) > 15 and all(re.search(rf"^{name}{{", text, re.MULTILINE) for name in shown), shown
    # A page is 16 tokens; 64 sequences of the whole context are the most that the cache can be used for.
    context = s.get("/v1/models")[1]["data"][0]["max_model_len"]
    assert s.metric("cache_pages") == 64 * -(-context // 16), (s.metric("cache_pages"), context)
    s.close()


def keys_apart(lathe, model):
    """--cache-by-key: what one key's requests left in the cache is not another's."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("first\nsecond\n")
        file.flush()
        s = Server(lathe, model, "--api-key-file", file.name, "--cache-by-key").wait_until_ready()
    cached = []
    for key in "first", "first", "second", "second", "first":
        answer = s.ask("POST", "/v1/completions", {"prompt": "Once upon a time there was a dog. " * 8, "max_tokens": 1}, {"x-api-key": key})[1]
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0)
    assert cached == [False, True, False, True, True], cached
    s.close()


def replicas(lathe, _):
    """deploy/nginx.conf before two replicas: requests that begin alike meet in one, streams pass, a replica that drains is left alone."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx:
        raise Skipped("nginx is not installed")
    pair = [Server(lathe, GOLDEN, "--kv-memory", "1MiB").wait_until_ready() for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        text = (ROOT / "deploy/nginx.conf").read_text().replace("listen 8080", f"listen 127.0.0.1:{port}")
        for i, s in enumerate(pair):
            text = text.replace(f"127.0.0.1:{8001 + i}", f"127.0.0.1:{s.port}")
        places = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        pathlib.Path(folder, "nginx.conf").write_text(f"daemon off; pid {folder}/pid; error_log {folder}/log; events {{}} http {{ access_log off; {places}\n{text} }}")
        proxy = subprocess.Popen([nginx, "-p", folder, "-c", "nginx.conf"], stderr=subprocess.DEVNULL)
        try:
            front = object.__new__(Server)
            front.port = port
            while True:
                try:
                    assert front.get("/health")[0] == 200
                    break
                except ConnectionRefusedError:
                    assert proxy.poll() is None, pathlib.Path(folder, "log").read_text()
                    time.sleep(0.02)

            def served(body, headers=None, times=1):
                before = [s.metric("requests_accepted_total") for s in pair]
                for _ in range(times):
                    assert front.ask("POST", "/v1/completions", body, headers)[0] == 200
                return tuple(s.metric("requests_accepted_total") - b for s, b in zip(pair, before))

            asked = {"prompt": [3, 4, 5], "max_tokens": 2}
            assert sorted(served({**asked, "seed": 1}, times=4)) == [0, 4]
            begins = {served({"prompt": [i, i + 1], "max_tokens": 2}) for i in range(3, 23)}
            assert begins == {(1, 0), (0, 1)}, begins
            sessions = {served({**asked, "seed": i % 2}, {"X-Session-Id": str(i // 2)}) for i in range(40)}
            assert sessions == {(1, 0), (0, 1)}, sessions
            assert all(sorted(served(asked, {"X-Session-Id": str(i)}, times=3)) == [0, 3] for i in range(4))
            connection = half_request(front, {**asked, "max_tokens": 60, "n": 120, "ignore_eos": True, "stream": True})
            begun = receive(connection, b"data: ")
            assert b"text/event-stream" in begun and b"[DONE]" not in begun
            receive(connection, b"[DONE]")
            connection.close()
            pair[0].close()
            for i in range(3, 23):
                assert front.ask("POST", "/v1/completions", {"prompt": [i, i + 1], "max_tokens": 2})[0] == 200
        finally:
            proxy.terminate()
            proxy.wait(10)
    pair[1].close()


def ranks(lathe, _):
    """Two processes share a model out: the answers of one; SIGTERM drains; one that dies ends the other."""
    if not shutil.which("mpirun"):
        raise Skipped("mpirun is not installed")
    launcher = ("mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2")
    golden = str(ROOT / "tests/goldens/llama_untied_gqa")
    alone = Server(lathe, golden).wait_until_ready()
    shared = Server(lathe, golden, launcher=launcher)
    while shared.get("/health/ready")[0] != 200:
        if "without MPI" in shared.text():
            raise Skipped("this build has no MPI")
        assert shared.process.poll() is None, shared.text()
        time.sleep(0.05)
    asked = [{"prompt": list(range(i, i + 9)), "max_tokens": 10, "temperature": 0, "logprobs": 1, "ignore_eos": True} for i in range(1, 9)]
    want = [alone.post("/v1/completions", body)["choices"][0]["logprobs"]["tokens"] for body in asked]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda body: shared.post("/v1/completions", body)["choices"][0]["logprobs"]["tokens"], asked))
    assert found == want, (found, want)
    alone.close()
    many = {**asked[0], "prompt": [body["prompt"] for body in asked], "max_tokens": 50, "n": 100}  # a second's work
    left = half_request(shared, many)
    shared.until("sequences_running", 64)
    left.close()
    shared.until("sequences_running", 0)
    children = [int(p) for p in pathlib.Path(f"/proc/{shared.process.pid}/task/{shared.process.pid}/children").read_text().split()]
    assert len(children) == 2, children
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(shared.post, "/v1/completions", many)
        shared.until("sequences_running", 64)
        for child in children:
            os.kill(child, signal.SIGTERM)
        assert answer.result()["usage"]["completion_tokens"] == 40_000
    assert shared.process.wait(60) == 0, shared.text()
    shared = Server(lathe, golden, launcher=launcher).wait_until_ready()
    children = pathlib.Path(f"/proc/{shared.process.pid}/task/{shared.process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    assert shared.process.wait(60) != 0


if __name__ == "__main__":
    sys.exit(main((), (models_and_adapters, options_of_the_server, keys_apart, replicas, ranks)))
