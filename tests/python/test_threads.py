"""Several threads, forks and exits while the library computes. What would end the interpreter runs in one of its own."""
import itertools
import os
import subprocess
import sys
import textwrap
import threading

import pytest

import lathe
from conftest import GOLDENS

OPTIONS = dict(temperature=1.0, seed=5, ignore_eos=True)
FOLDER = GOLDENS / "qwen3_moe_sparse_step"  # some milliseconds a step


def together(*functions):
    threads = [threading.Thread(target=f) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(script, **environment):
    """A script in an interpreter of its own, with `model`, a model of 3 layers. A hang fails the test."""
    head = f"import lathe, os, sys, threading, time\nmodel = lathe.load({str(FOLDER)!r}, 'float32')\n"
    return subprocess.run([sys.executable, "-c", head + textwrap.dedent(script)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **environment})


def test_each_event_of_a_stream_goes_to_one_of_the_threads_that_pull_it():
    model = lathe.load(FOLDER, "float32")
    whole = model.generate([5, 6, 7], max_new_tokens=50, **OPTIONS).tokens
    for _ in range(20):
        stream, taken = model.stream([5, 6, 7], max_new_tokens=50, **OPTIONS), [[], [], []]
        together(*(lambda part=part: part.extend(e.token for e in stream) for part in taken))
        assert sorted(itertools.chain(*taken)) == sorted(whole)
        assert stream.result().tokens == whole


def test_closing_a_stream_that_another_thread_pulls_ends_it():
    model = lathe.load(FOLDER, "float32")
    stream, taken, begun = model.stream([5, 6, 7], max_new_tokens=58, **OPTIONS), [], threading.Event()

    def pull():
        for event in stream:
            taken.append(event.token)
            begun.set()

    together(pull, lambda: (begun.wait(), stream.close()))
    assert stream.result().finish_reason in ("cancelled", "length")
    assert stream.result().tokens[: len(taken)] == taken


def test_threads_and_their_number_change_no_answer():
    model, results, done = lathe.load(FOLDER, "float32"), [], threading.Event()
    alone = model.generate([5, 6, 7], max_new_tokens=30, **OPTIONS).tokens

    def work():
        for _ in range(10):
            results.append(model.generate([5, 6, 7], max_new_tokens=30, **OPTIONS).tokens)
        done.set()

    def change():
        for threads in itertools.cycle((2, 1, 3)):
            lathe.set_threads(threads)
            if done.is_set():
                return

    together(work, work, change)
    assert results == [alone] * 20


def test_a_stream_is_dropped_while_another_thread_computes():
    result = run("""
        streams = [model.stream([5, 6, 7], max_new_tokens=50, ignore_eos=True) for _ in range(50)]
        whole = model.logits([5, 6, 7])
        def compute():
            for _ in range(100): model.logits(list(range(60)))
        thread = threading.Thread(target=compute); thread.start()
        del streams
        thread.join()
        assert (model.logits([5, 6, 7]) == whole).all()
        assert len(model.generate([5, 6, 7], max_new_tokens=4, ignore_eos=True).tokens) == 4
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("work", [
    "model.generate([5, 6, 7], max_new_tokens=50, ignore_eos=True)",
    "model.logits(list(range(60)))",
    "list(model.stream([5, 6, 7], max_new_tokens=50, ignore_eos=True))",
    "trainable.gradients(list(range(60)))",
    "lathe.load(model.path, progress=lambda read, total: None)",
])
def test_a_daemon_thread_that_computes_at_exit_does_no_harm(work):
    result = run(f"""
        trainable = lathe.load(model.path, trainable=True)
        def forever():
            while True: {work}
        for _ in range(2): threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.2)
        print("end")
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")


def test_what_is_left_open_at_exit_does_no_harm():
    result = run("""
        import atexit
        stream = model.stream([5, 6, 7], max_new_tokens=50, ignore_eos=True)
        next(stream)
        atexit.register(lambda: print(len(model.generate([5, 6], max_new_tokens=3, ignore_eos=True).tokens)))
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "3\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_while_a_thread_computes_computes_the_same():
    result = run("""
        stop, ids = False, list(range(60))
        logits = model.logits(ids)
        answer = model.generate([5, 6, 7], greedy=True, ignore_eos=True, max_new_tokens=20).tokens
        def compute():
            while not stop: model.generate([5, 6, 7], max_new_tokens=50, ignore_eos=True)
        threads = [threading.Thread(target=compute) for _ in range(2)]
        for thread in threads: thread.start()
        codes = []
        for _ in range(5):
            time.sleep(0.01)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    same = (model.logits(ids) == logits).all()
                    lathe.set_threads(2)
                    code = 0 if same and model.generate([5, 6, 7], greedy=True, ignore_eos=True, max_new_tokens=20).tokens == answer else 3
                finally:
                    os._exit(code)
            codes.append(os.waitpid(child, 0)[1])
        stop = True
        for thread in threads: thread.join()
        assert codes == [0] * 5, codes
        assert model.generate([5, 6, 7], greedy=True, ignore_eos=True, max_new_tokens=20).tokens == answer
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("work", ["model.logits(ids)", "model.hidden(ids)", "model.trace(ids, 'logits')", "trainable.gradients(ids)",
                                  "model.generate(ids, max_new_tokens=1)"])
def test_ctrl_c_ends_what_computes(work):
    result = run(f"""
        import signal
        ids = list(range(60))
        trainable = lathe.load(model.path, trainable=True)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            while True: {work}
        except KeyboardInterrupt:
            print("stopped", len(model.logits(ids)))
    """)
    assert (result.returncode, result.stdout) == (0, "stopped 60\n"), result.stderr


def test_a_signal_handler_is_refused_the_model_that_it_interrupts():
    result = run("""
        import signal
        other, said = lathe.load(model.path, "float32"), []
        def handler(*_):
            said.append(other.logits([1, 2, 3]).shape[0])
            lathe.set_threads(2)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        while len(said) < 3: model.logits(list(range(60)))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(said[:3])
    """)
    assert (result.returncode, result.stdout) == (0, "[3, 3, 3]\n"), result.stderr
