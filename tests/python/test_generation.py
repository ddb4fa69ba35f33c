"""Text and generation: greedy, sampled, streamed, together, with a vocabulary and a chat template."""
import json
import pickle
import re

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


def test_a_list_of_prompts_is_a_batch(talking_model):
    model = lathe.load(talking_model, "float32")
    conversation = [{"role": "user", "content": "say it"}]
    prompts = ["once upon", [7, 8, 9], conversation, np.array([10, 11]), "a time"]
    options = dict(temperature=1.2, seed=4, max_new_tokens=12, ignore_eos=True)
    alone = [lathe.load(talking_model, "float32").generate(p, **options) for p in prompts]
    together = model.generate(prompts, **options)
    assert [c.tokens for c in together] == [c.tokens for c in alone]
    assert [c.text for c in together] == [c.text for c in alone]
    assert [c.tokens for c in model.generate([conversation, conversation], **options)] == [alone[2].tokens] * 2
    assert model.generate(conversation, **options).tokens == alone[2].tokens
    assert [c.tokens for c in model.generate(["once upon"], **options)] == [alone[0].tokens]
    assert len(model.generate([[7 + n % 20, 8] for n in range(100)], max_new_tokens=2)) == 100  # more than run at once


def test_a_stream_is_closed(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, "float32")
    whole = model.generate(expected["tokens"], greedy=True, ignore_eos=True, max_new_tokens=20)
    with model.stream(expected["tokens"], greedy=True, ignore_eos=True, max_new_tokens=20) as stream:
        first = next(stream).token
    assert list(stream) == []
    assert stream.result().finish_reason == "cancelled" and stream.result().tokens[0] == first == whole.tokens[0]
    stream.close()
    with pytest.raises(ZeroDivisionError):
        with model.stream(expected["tokens"]) as stream:
            1 / 0
    assert list(stream) == []
    with model.stream(expected["tokens"], greedy=True, ignore_eos=True, max_new_tokens=20) as stream:
        assert stream.result() == stream.result() and stream.result().tokens == whole.tokens
    assert stream.result().finish_reason == "length"


def test_a_stop_is_one_text_or_several(talking_model):
    model = lathe.load(talking_model, "float32")
    options = dict(temperature=1.5, seed=7, max_new_tokens=20, ignore_eos=True)
    text = model.generate("once upon", **options).text
    for stop in (text[3], [text[3]], (text[3], "no such text")):
        completion = model.generate("once upon", stop=stop, **options)
        assert completion.text == text[: text.index(text[3])] and completion.finish_reason == "stop"
    assert model.generate("once upon", stop=[], **options).text == text


def test_results_are_values(talking_model):
    model = lathe.load(talking_model, "float32")
    completion = model.generate("once upon", max_tokens=3, seed=3, temperature=1.0, logprobs=1, ignore_eos=True)
    assert pickle.loads(pickle.dumps(completion)) == completion
    events = list(model.stream("once upon", max_tokens=3, seed=3, temperature=1.0, logprobs=1, ignore_eos=True))
    assert pickle.loads(pickle.dumps(events)) == events
    stream = model.stream("once upon", max_tokens=3)
    for shown in (completion, events[-1], stream, model, model.tokenizer, model.config, completion.logprobs):
        assert not re.search("0x[0-9a-f]{4}", repr(shown)), repr(shown)
    assert str(completion) == completion.text and repr(completion).startswith("Completion(tokens=[")
    with pytest.raises(AttributeError):
        completion.text = "another"


def test_the_tokenizer_as_others_have_it(talking_model):
    tokenizer = lathe.load(talking_model).tokenizer
    assert tokenizer("abc") == tokenizer.encode("abc")
    assert tokenizer(["abc", "de"]) == [tokenizer.encode("abc"), tokenizer.encode("de")] and tokenizer([]) == []
    ids = tokenizer.encode("<s>ab<|im_end|>c</s>")
    assert tokenizer.decode(ids) == "<s>ab<|im_end|>c</s>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "abc"
    with pytest.raises(TypeError):
        tokenizer(["abc", 7])


def test_template_arguments(talking_model):
    template = ("{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %} tools {{ tools | length }}{% endif %}"
                "{% if thinking is defined and not thinking %} no{% endif %}{% if style %} {{ style.name }}{% endif %}"
                "{% if add_generation_prompt %} say{% endif %}")
    (talking_model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "</s>", "bos_token": "<s>"}))
    model = lathe.load(talking_model, "float32")
    render, messages = model.tokenizer.render_chat, [{"role": "user", "content": "hi"}]
    assert render(messages) == "hi say" and render(tuple(messages), add_generation_prompt=False) == "hi"
    assert render(messages, tools=[{"name": "a"}, {"name": "b"}]) == "hi tools 2 say"
    assert render(messages, thinking=False) == "hi no say" and render(messages, thinking=True) == "hi say"
    assert render(messages, style={"name": "plain"}, add_generation_prompt=False) == "hi plain"
    assert 2 not in model.tokenizer.encode_chat(messages, style={"name": "</s>"})  # what a variable spells is no control token
    variables = dict(thinking=False, style={"name": "plain"})
    ids = model.tokenizer.encode_chat(messages, **variables)
    assert model.tokenizer.decode(ids) == "hi no plain say"
    options = dict(max_tokens=6, seed=1, temperature=1.0, ignore_eos=True)
    direct = model.generate(ids, **options)
    assert model.generate(messages, chat_template_kwargs=variables, **options).tokens == direct.tokens
    assert model.generate(messages, tools=[{"name": "a"}], **options).prompt_tokens == len(model.tokenizer.encode_chat(messages, tools=[{"name": "a"}]))
    with pytest.raises(TypeError, match="tools: the prompt is no conversation"):
        model.generate("text", tools=[{"name": "a"}])
    with pytest.raises(lathe.Error, match="template variables"):
        render(messages, style=float("nan"))
