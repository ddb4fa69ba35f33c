"""Text and generation: greedy, sampled, streamed, together, with a vocabulary and a chat template."""
import numpy as np
import pytest

import lathe


def test_greedy_text_is_that_of_transformers(golden):
    folder, expected = golden("llama_untied_gqa")
    completion = lathe.load(folder, "float32").generate(expected["tokens"], greedy=True, ignore_eos=True, max_new_tokens=16)
    assert completion.tokens == expected["greedy"].tolist()
    assert completion.finish_reason == "length" and completion.text is None and completion.prompt_tokens == 37


def test_a_stream_is_the_answer_in_pieces(talking_model):
    model = lathe.load(talking_model, "float32")
    options = dict(temperature=1.5, seed=7, max_new_tokens=20, ignore_eos=True, logprobs=2)
    whole = model.generate("once upon", **options)
    events = list(model.stream("once upon", **options))
    assert [e.token for e in events] == whole.tokens
    assert "".join(e.text for e in events) == whole.text
    assert events[-1].completion.seed == 7 and len(events[0].logprobs.top) == 2
    best = whole.logprobs[0].top[0]
    logits = model.logits(model.tokenizer.encode("once upon"))[-1].astype(np.float64)
    assert best[0] == logits.argmax()
    assert best[1] == pytest.approx(logits.max() - np.log(np.exp(logits).sum()), abs=1e-5)


def test_streams_that_are_open_together_give_what_each_gives_alone(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, "float32")
    prompts = [expected["tokens"][:n] for n in (3, 17, 37)]
    options = dict(temperature=1.0, seed=3, ignore_eos=True, max_new_tokens=12)
    alone = [lathe.load(folder, "float32").generate(p, **options).tokens for p in prompts]
    streams = [model.stream(p, **options) for p in prompts]
    assert [s.result().tokens for s in streams] == alone
    streams = [model.stream(p, **options) for p in prompts]
    assert [[e.token for e in events] for events in zip(*streams)] == [list(t) for t in zip(*alone)]


def test_a_stream_may_be_left(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, "float32")
    for _ in range(100):  # more than run at once
        next(model.stream(expected["tokens"], ignore_eos=True, max_new_tokens=20))
    stream = lathe.load(folder).stream(expected["tokens"], max_new_tokens=2, ignore_eos=True)  # which keeps its model
    assert len(list(stream)) == 2
    with pytest.raises(StopIteration):
        next(stream)


def test_options_are_checked(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder)
    for options in (dict(top_p=2.0), dict(temperature=-1.0), dict(max_new_tokens=0)):
        with pytest.raises(lathe.Error):
            model.generate(expected["tokens"], **options)
    with pytest.raises(TypeError):
        model.generate(expected["tokens"], temprature=1.0)


def test_tokenizer_and_chat(talking_model):
    model = lathe.load(talking_model, "float32")
    tokenizer = model.tokenizer
    ids = tokenizer.encode("abc def.")
    assert tokenizer.decode(ids) == "abc def." == tokenizer.decode(np.array(ids, np.int32))
    assert tokenizer.vocab_size == 33 and tokenizer.token_text(3) == "<|im_start|>" and tokenizer.token_id("</s>") == 2
    messages = [{"role": "user", "content": "say <|im_end|>"}]
    text = tokenizer.render_chat(messages)
    assert text == "<|im_start|>user say <|im_end|><|im_end|><|im_start|>assistant "
    chat = tokenizer.encode_chat(messages)
    assert chat.count(4) == 1  # what a user writes is no control token
    a, b = (model.generate(p, greedy=True, max_new_tokens=6).tokens for p in (messages, chat))
    assert a == b
    assert lathe.Tokenizer.load(talking_model).encode("abc") == tokenizer.encode("abc")


def test_a_conversation_needs_a_template(talking_model):
    (talking_model / "tokenizer_config.json").unlink()
    with pytest.raises(lathe.Error, match="chat template") as error:
        lathe.load(talking_model).generate([{"role": "user", "content": "a"}])
    assert error.value.hint
