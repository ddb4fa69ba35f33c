#!/usr/bin/env python3
"""Tools, thinking and responses of `lathe serve`, as clients use them: a template with tools stands in for the model's own.

  usage: check_serve_tools.py LATHE [--model M] [--only NAME...]        Closing line "N passed, N failed, N skipped".

LangChain and LiteLLM are asked where --only names them.
"""
import json
import sys
import typing

from check_serve import ROOT, chat, installed, main

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Current weather of a city", "parameters": WEATHER}}
# A small model that is asked to call a tool does not; one that is asked to repeat a call does.
CALL = 'Repeat this text:\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
# One that has seen thinking thinks.
PLACES = [("Paris", "France"), ("Rome", "Italy"), ("Madrid", "Spain"), ("Berlin", None)]


def places(answer):
    """Questions, and answer(thinking, text) to all but the last."""
    for place, country in PLACES:
        yield {"role": "user", "content": f"Where is {place}?"}
        if country:
            yield from answer(f"{place} is a city in {country}.", f"In {country}.")


def reused(usage_before, usage, page=16):
    """Whether a turn computed only what is new: all whole pages of the last prompt and of what answered it come from the cache."""
    before = usage_before["prompt_tokens"] + usage_before["completion_tokens"] - 1  # the last token was never computed
    assert usage["prompt_tokens_details"]["cached_tokens"] >= before // page * page, (usage_before, usage)


def tools(s):
    """A call and its answer: the next turn computes only what is new, whichever API asks; streams say the same."""
    body = chat(CALL, tools=[TOOL], max_tokens=60, temperature=0)
    first = s.post("/v1/chat/completions", body)
    choice = first["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls" and call["function"]["name"] == "get_weather", choice
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}, call
    deltas = [c["delta"] for e in s.stream("/v1/chat/completions", body)[:-1] for c in json.loads(e)["choices"]]
    streamed = [c for d in deltas for c in d.get("tool_calls", [])]
    assert [(c["index"], c["type"], c["function"]) for c in streamed] == [(0, "function", call["function"])], streamed
    assert streamed[0]["id"] and "".join(d.get("content", "") for d in deltas) == (choice["message"]["content"] or "")
    second = s.post("/v1/chat/completions", {**body, "messages": [*body["messages"], choice["message"],
                                                                  {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]})
    reused(first["usage"], second["usage"])
    for field, value in {"tool_choice": "perhaps", "tools": [{"type": "function"}], "reasoning_effort": "lots"}.items():
        assert s.post("/v1/chat/completions", {**body, field: value}, 400)["error"]["param"] == field, field
    none = s.post("/v1/chat/completions", {**body, "tool_choice": "none"})["choices"][0]
    assert "tool_calls" not in none["message"], none


def thoughts(s):
    """Thinking apart from the text, in all three APIs and their streams."""
    body = {"model": "tiny", "max_tokens": 40, "temperature": 0,
            "messages": list(places(lambda thinking, text: [{"role": "assistant", "content": text, "reasoning_content": thinking}]))}
    message = s.post("/v1/chat/completions", body)["choices"][0]["message"]
    assert message["reasoning_content"].startswith("Berlin is") and message["content"].startswith("In "), message
    deltas = [c["delta"] for e in s.stream("/v1/chat/completions", body)[:-1] for c in json.loads(e)["choices"]]
    for key in "reasoning_content", "content":
        assert "".join(d.get(key, "") for d in deltas) == message[key], key
    opened = s.post("/v1/chat/completions", {**body, "reasoning_effort": "low"})["choices"][0]["message"]
    assert opened == message, opened  # where the prompt has written the mark, too
    stopped = s.post("/v1/chat/completions", {**body, "stop": " is"})["choices"][0]["message"]
    assert stopped["reasoning_content"] == "Berlin" and stopped["content"] == "", stopped
    items = list(places(lambda thinking, text: [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": thinking}]},
                                                {"role": "assistant", "content": text}]))
    response = s.post("/v1/responses", {"model": "tiny", "input": items, "max_output_tokens": 40, "temperature": 0})
    assert [i["content"][0]["text"] for i in response["output"]] == [message["reasoning_content"], message["content"]], response
    usage = response["usage"]
    assert 0 < usage["output_tokens_details"]["reasoning_tokens"] < usage["output_tokens"], usage
    prompt = s.post("/render", {"messages": body["messages"], "chat_template_kwargs": {"enable_thinking": False}})["prompt"]
    assert prompt.endswith("<think>\n\n</think>\n\n"), prompt


def openai_tools(s):
    openai = installed("openai")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="none", max_retries=0)
    conversation, usages = [{"role": "user", "content": CALL}], []
    for _ in range(2):  # a loop of tools, as its documentation has it
        answer = client.chat.completions.create(model="tiny", messages=conversation, tools=[TOOL], temperature=0, max_tokens=60)
        usages.append(answer.usage.to_dict())
        conversation.append(answer.choices[0].message)
        for call in answer.choices[0].message.tool_calls or []:
            assert json.loads(call.function.arguments) == {"city": "Paris"}
            conversation.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    assert conversation[2]["content"] == "sunny", conversation
    reused(*usages)
    flat = {"type": "function", "strict": False, **TOOL["function"]}
    asked = dict(model="tiny", instructions="Be brief.", temperature=0, max_output_tokens=60, tools=[flat, {"type": "web_search"}])
    whole = client.responses.create(input=CALL, **asked)
    assert [item.type for item in whole.output][-1] == "function_call" and whole.status == "completed", whole
    assert len(whole.warnings) == 1 and whole.output[-1].name == "get_weather", whole
    with client.responses.stream(input=CALL, **asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert [(i.type, getattr(i, "arguments", None)) for i in final.output] == [(i.type, getattr(i, "arguments", None)) for i in whole.output]
    after = [{"role": "user", "content": CALL}, *[item.to_dict() for item in whole.output],
             {"type": "function_call_output", "call_id": whole.output[-1].call_id, "output": "sunny"}]
    second = client.responses.create(input=after, **asked)
    assert second.status == "completed" and second.output[-1].type == "message", second
    assert second.usage.input_tokens_details.cached_tokens >= (whole.usage.total_tokens - 1) // 16 * 16, (whole.usage, second.usage)
    counted = client.responses.input_tokens.count(model="tiny", input=after, instructions="Be brief.", tools=asked["tools"])
    assert counted.input_tokens == second.usage.input_tokens, (counted, second.usage)
    text = client.responses.create(model="tiny", input=[{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
                                   max_output_tokens=3, extra_body={"ignore_eos": True})
    assert text.status == "incomplete" and text.incomplete_details.reason == "max_output_tokens", text
    try:
        client.responses.create(model="tiny", input="a", previous_response_id="resp_1")
    except openai.BadRequestError as e:
        assert e.param == "previous_response_id" and "stateless" in str(e), e
    else:
        raise AssertionError("state was accepted")


def anthropic_tools(s):
    anthropic = installed("anthropic")
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key="none", max_retries=0)
    tool = {"name": "get_weather", "description": "Current weather of a city", "input_schema": WEATHER}
    asked = dict(model="tiny", max_tokens=60, extra_body={"temperature": 0}, tools=[tool], tool_choice={"type": "auto", "disable_parallel_tool_use": False})
    conversation = [{"role": "user", "content": CALL}]
    first = client.messages.create(messages=conversation, **asked)
    assert first.stop_reason == "tool_use" and first.content[-1].input == {"city": "Paris"}, first
    with client.messages.stream(messages=conversation, **asked) as stream:
        streamed = stream.get_final_message()
    assert [(b.type, getattr(b, "input", None)) for b in streamed.content] == [(b.type, getattr(b, "input", None)) for b in first.content]
    conversation += [{"role": "assistant", "content": first.content},
                     {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "sunny"}]}]
    second = client.messages.create(messages=conversation, **asked)
    before = first.usage.input_tokens + first.usage.cache_read_input_tokens + first.usage.output_tokens - 1
    assert second.usage.cache_read_input_tokens >= before // 16 * 16, (first.usage, second.usage)
    conversation = list(places(lambda thinking, text: [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": thinking, "signature": ""}, {"type": "text", "text": text}]}]))
    asked = dict(model="tiny", max_tokens=40, extra_body={"temperature": 0}, messages=conversation)
    silent = client.messages.create(**asked)
    assert [b.type for b in silent.content] == ["text"], silent
    asked["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(**asked) as stream:
        kinds = [e.type for e in stream]
        thought = stream.get_final_message()
    assert [b.type for b in thought.content] == ["thinking", "text"] and "thinking" in kinds, (thought, kinds)
    assert thought.content[0].thinking.startswith("Berlin is") and thought.content[1].text == silent.content[0].text, thought


def openai_agents(s):
    """A loop of tools as the framework runs it on its defaults, which are the Responses API."""
    agents = installed("agents")
    openai = installed("openai")
    asked_for = []

    @agents.function_tool
    def get_weather(city: str) -> str:
        """Current weather of a city"""
        asked_for.append(city)
        return "sunny"

    agents.set_default_openai_client(openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="none"), use_for_tracing=False)
    agents.set_tracing_disabled(True)
    agent = agents.Agent(name="weather", instructions="Be brief.", model="tiny", tools=[get_weather])
    result = agents.Runner.run_sync(agent, CALL, max_turns=3)
    assert asked_for == ["Paris"] and result.final_output, (asked_for, result)


def forced_tools(s):
    """Calls that must be made, by each API: which, and their arguments, are the model's to choose only as far as the request lets it."""
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in ("get_weather", "get_time")]
    body = chat("Hello", max_tokens=60, temperature=0, tools=tools, reasoning_effort="none")
    for choice, names in ("required", {"get_weather", "get_time"}), ({"type": "function", "function": {"name": "get_time"}}, {"get_time"}):
        answer = s.post("/v1/chat/completions", {**body, "tool_choice": choice, "parallel_tool_calls": False})["choices"][0]
        (call,) = answer["message"]["tool_calls"]
        assert answer["finish_reason"] == "tool_calls" and call["function"]["name"] in names, answer
        assert json.loads(call["function"]["arguments"])["city"] in ("Rome", "Oslo"), call
    second = {**body, "messages": [*body["messages"], answer["message"], {"role": "tool", "tool_call_id": call["id"], "content": "noon"}]}
    first = s.post("/v1/chat/completions", {**body, "tool_choice": choice})
    second["messages"][1] = first["choices"][0]["message"]
    second["messages"][2]["tool_call_id"] = first["choices"][0]["message"]["tool_calls"][0]["id"]
    reused(first["usage"], s.post("/v1/chat/completions", second)["usage"])  # a turn that its grammar ended
    flat = [{"type": "function", **tool["function"]} for tool in tools]
    response = s.post("/v1/responses", {"model": "tiny", "input": "Hello", "tools": flat, "temperature": 0, "reasoning": {"effort": "none"},
                                        "tool_choice": {"type": "function", "name": "get_time"}})
    assert [i["type"] for i in response["output"]] == ["function_call"] and response["output"][0]["name"] == "get_time", response
    message = s.post("/v1/messages", {"messages": body["messages"], "max_tokens": 60, "temperature": 0, "thinking": {"type": "disabled"},
                                      "tools": [{"name": t["name"], "input_schema": schema} for t in flat],
                                      "tool_choice": {"type": "tool", "name": "get_time", "disable_parallel_tool_use": True}})
    assert [b["type"] for b in message["content"]] == ["tool_use"] and message["content"][0]["name"] == "get_time", message
    either = s.post("/v1/chat/completions", {**body, "response_format": {"type": "json_object"}})["choices"][0]["message"]
    assert either.get("tool_calls") or isinstance(json.loads(either["content"]), dict), either
    assert s.post("/v1/chat/completions", {**body, "tool_choice": {"type": "function", "function": {"name": "other"}}}, 400)["error"]["param"] == "tool_choice"


def structured(s):
    """Answers held to a schema, as each client asks for one: whole, streamed, and in the other APIs' fields."""
    openai, anthropic, pydantic = installed("openai"), installed("anthropic"), installed("pydantic")

    class Visit(pydantic.BaseModel):
        city: typing.Literal["Rome", "Oslo"]
        again: bool
        grades: typing.Annotated[list[typing.Literal[1, 2, 3]], pydantic.Field(min_length=1, max_length=2)]
        note: typing.Literal["far"] | None

    client = openai.OpenAI(base_url=f"http://127.0.0.1:{s.port}/v1", api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "How was it?"}]
    asked = dict(model="tiny", messages=messages, temperature=0, max_tokens=120, reasoning_effort="none", response_format=Visit)
    whole = client.chat.completions.parse(**asked).choices[0].message
    assert isinstance(whole.parsed, Visit), whole
    with client.chat.completions.stream(**asked) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == whole.parsed
    answer = client.responses.parse(model="tiny", input=messages, temperature=0, max_output_tokens=120, reasoning={"effort": "none"}, text_format=Visit)
    assert answer.output_parsed == whole.parsed and answer.text.format.type == "json_schema", answer
    schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"], "additionalProperties": False}
    message = anthropic.Anthropic(base_url=f"http://127.0.0.1:{s.port}", api_key="none", max_retries=0).messages.create(
        model="tiny", max_tokens=60, messages=messages, thinking={"type": "disabled"},
        extra_body={"temperature": 0, "output_config": {"format": {"type": "json_schema", "schema": schema}}})
    assert json.loads(message.content[0].text)["city"] in ("Rome", "Oslo"), message
    plain = s.post("/v1/chat/completions", chat("Write JSON.", temperature=0, max_tokens=200, reasoning_effort="none", response_format={"type": "json_object"}))
    assert plain["choices"][0]["finish_reason"] == "length" or isinstance(json.loads(plain["choices"][0]["message"]["content"]), dict), plain
    for bad in {"type": "object", "multipleOf": 3}, {"type": "strin"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "("}:
        body = chat("a", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": bad}})
        assert s.post("/v1/chat/completions", body, 400)["error"]["param"] == "response_format", bad


def langchain(s):
    """A loop of tools through both of its clients."""
    openai, anthropic, core = installed("langchain_openai"), installed("langchain_anthropic"), installed("langchain_core.tools")

    @core.tool
    def get_weather(city: str) -> str:
        """Current weather of a city"""
        return f"sunny in {city}"

    address = f"http://127.0.0.1:{s.port}"
    for model in (openai.ChatOpenAI(model="tiny", base_url=f"{address}/v1", api_key="none", temperature=0, max_tokens=60, max_retries=0),
                  openai.ChatOpenAI(model="tiny", base_url=f"{address}/v1", api_key="none", temperature=0, max_tokens=60, max_retries=0,
                                    use_responses_api=True),
                  anthropic.ChatAnthropic(model="tiny", base_url=address, api_key="none", temperature=0, max_tokens=60, max_retries=0)):
        bound = model.bind_tools([get_weather])
        conversation = [("human", CALL), bound.invoke([("human", CALL)])]
        (call,) = conversation[1].tool_calls
        assert call["args"] == {"city": "Paris"}, call
        result = get_weather.invoke(call)
        assert result.content == "sunny in Paris", result
        assert bound.invoke([*conversation, result]).content is not None
        first, *others = bound.stream([("human", CALL)])
        streamed = sum(others, first)
        assert streamed.tool_calls[0]["args"] == {"city": "Paris"}, streamed


def litellm(s):
    """Chat, its stream and Anthropic's API."""
    client = installed("litellm")
    address = f"http://127.0.0.1:{s.port}"
    asked = dict(messages=[{"role": "user", "content": CALL}], tools=[TOOL], temperature=0, max_tokens=60, api_key="none")
    for model, base in ("openai/tiny", f"{address}/v1"), ("anthropic/tiny", address):
        answer = client.completion(model=model, api_base=base, **asked)
        call = answer.choices[0].message.tool_calls[0]
        assert json.loads(call.function.arguments) == {"city": "Paris"}, answer
        chunks = list(client.completion(model=model, api_base=base, stream=True, **asked))
        whole = client.stream_chunk_builder(chunks)
        assert json.loads(whole.choices[0].message.tool_calls[0].function.arguments) == {"city": "Paris"}, whole


if __name__ == "__main__":
    named = [f for f in (langchain, litellm) if f.__name__ in sys.argv]
    sys.exit(main([tools, thoughts, forced_tools, structured, openai_tools, anthropic_tools, openai_agents, *named],
                  options=["--chat-template", str(ROOT / "tests/serve/tools.jinja")]))
