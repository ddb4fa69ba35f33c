// lathe.Tokenizer.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "python/src/arrays.h"
#include "python/src/bindings.h"
#include "python/src/computing.h"
#include "text/chat_template/encode_chat.h"
#include "text/chat_template/messages.h"

namespace lathe::python {
namespace {

// nanobind's holders are not const; every member of a Tokenizer is.
std::shared_ptr<Tokenizer> load_tokenizer(const nb::object& path, const std::optional<std::string>& pattern) {
  const std::string name = to_path(path);
  return without_interpreter([&] {
    const Computing computing(check_signals);
    return std::const_pointer_cast<Tokenizer>(Tokenizer::load(name, pattern.value_or("")));
  });
}

std::vector<int32_t> encode(const Tokenizer& t, const nb::str& text, bool special, std::optional<bool> parse,
                            const nb::kwargs& unknown) {
  refuse_unknown("encode", unknown, {"text", "add_special_tokens", "parse_special"});
  using Parse = EncodeOptions::ParseSpecial;
  EncodeOptions options;
  options.add_special_tokens = special;
  options.parse_special = !parse ? Parse::automatic : *parse ? Parse::yes : Parse::no;
  const std::string utf8 = to_utf8(text);
  return without_interpreter([&] {
    const Computing computing(check_signals);
    return t.encode(utf8, options);
  });
}

nb::object encode_each(const Tokenizer& t, const nb::object& text, bool special, std::optional<bool> parse,
                       const nb::kwargs& unknown) {
  refuse_unknown("Tokenizer", unknown, {"text", "add_special_tokens", "parse_special"});
  if (nb::isinstance<nb::str>(text)) return nb::cast(encode(t, nb::borrow<nb::str>(text), special, parse, {}));
  if (!nb::isinstance<nb::list>(text) && !nb::isinstance<nb::tuple>(text))
    throw nb::type_error(fmt::format("text: expected a str or a list of them, found a {}", kind_of(text)).c_str());
  nb::list all;
  for (const nb::handle each : text) {
    if (!nb::isinstance<nb::str>(each))
      throw nb::type_error(fmt::format("text: expected a list of str, found a {} in it", kind_of(each)).c_str());
    all.append(encode(t, nb::borrow<nb::str>(each), special, parse, {}));
  }
  return all;
}

std::string decode(const Tokenizer& t, const nb::object& tokens, bool skip_special_tokens, const nb::kwargs& unknown) {
  refuse_unknown("decode", unknown, {"ids", "skip_special_tokens"});
  const Ids ids(tokens);
  for (size_t i = 0; i < ids.view().size(); ++i)
    check(ids.view()[i] >= 0, "tokens", "number {} is {}, ids begin at 0", i, ids.view()[i]);
  return without_interpreter([&] {
    const Computing computing(check_signals);
    if (!skip_special_tokens) return t.decode(ids.view());
    std::vector<int32_t> plain;
    std::copy_if(ids.view().begin(), ids.view().end(), std::back_inserter(plain),
                 [&](int32_t id) { return !t.is_special(id); });
    return t.decode(plain);
  });
}

std::string token_text(const Tokenizer& t, int32_t id) {
  check(id >= 0, "id", "expected 0 or more, found {}", id);
  return t.token_text(id);
}

// What a template is given, read from Python.
struct Conversation {
  Conversation(const nb::object& messages, const nb::object& tools, bool prompt, const nb::kwargs& variables);
  // Needs no interpreter.
  ChatTemplate::Inputs inputs(const Tokenizer& t) const;

  std::string messages, tools, variables;  // JSON
  bool add_generation_prompt;
};

Conversation::Conversation(const nb::object& list, const nb::object& tools, bool prompt, const nb::kwargs& variables)
    : add_generation_prompt(prompt) {
  if (!nb::isinstance<nb::list>(list) && !nb::isinstance<nb::tuple>(list))
    throw nb::type_error("messages: expected a list of {\"role\": ..., \"content\": ...}");
  for (const nb::handle message : list)
    if (!nb::isinstance<nb::dict>(message))
      throw nb::type_error("messages: expected each to be a dict, {\"role\": ..., \"content\": ...}");
  messages = to_json("messages", list);
  this->tools = to_json("tools", tools);
  this->variables = to_json("template variables", variables);
}

ChatTemplate::Inputs Conversation::inputs(const Tokenizer& t) const {
  using Json = nlohmann::ordered_json;
  if (!t.chat_template()) throw Error("chat: the tokenizer has no chat template", "a base model continues text");
  ChatTemplate::Inputs inputs = chat_inputs(t);
  inputs.messages = Json::parse(messages);
  inputs.tools = Json::parse(tools);
  check_messages(inputs.messages, "messages");
  check_tools(inputs.tools, "tools");
  inputs.arguments = Json::parse(variables);
  inputs.add_generation_prompt = add_generation_prompt;
  return inputs;
}

std::string render(const Tokenizer& t, const nb::object& messages, const nb::object& tools, bool prompt,
                   const nb::kwargs& variables) {
  const Conversation conversation(messages, tools, prompt, variables);
  return without_interpreter([&] {
    const Computing computing(check_signals);
    const ChatTemplate::Inputs inputs = conversation.inputs(t);
    return ChatTemplate::parse(*t.chat_template()).render(inputs);
  });
}

std::vector<int32_t> encode_conversation(const Tokenizer& t, const nb::object& messages, const nb::object& tools,
                                         bool prompt, const nb::kwargs& variables) {
  const Conversation conversation(messages, tools, prompt, variables);
  return without_interpreter([&] {
    const Computing computing(check_signals);
    const ChatTemplate::Inputs inputs = conversation.inputs(t);
    return encode_chat(t, ChatTemplate::parse(*t.chat_template()), inputs);
  });
}

#define LATHE_CHAT_ARGUMENTS                                                                                          \
  "(self, messages: typing.Sequence[dict[str, typing.Any]], *, tools: typing.Sequence[dict[str, typing.Any]] | None " \
  "= None, add_generation_prompt: bool = True, **variables: typing.Any)"

const char* const kRenderDoc =
    "A conversation, [{\"role\": ..., \"content\": ...}, ...], as the text that the model was trained on. Further "
    "keywords are variables of the template (enable_thinking=False).";

}  // namespace

void bind_tokenizer(nb::module_& m) {
  nb::class_<Tokenizer> c(m, "Tokenizer",
                          "Text to ids and back, from any published form of vocabulary file.\n\n"
                          "`model.tokenizer` is a model's own.");
  c.def_static("load", &load_tokenizer, nb::arg("path"), nb::arg("pattern") = nb::none(),
               nb::sig("def load(path: str | os.PathLike, pattern: str | None = None) -> Tokenizer"),
               "From a folder, a file (tokenizer.json, sentencepiece, tekken, tiktoken, vocab.json) or a GGUF.\n\n"
               "`pattern` is for files that do not say how text is cut: \"gpt2\", \"llama3\", \"qwen\" or a regular "
               "expression.");
  c.def("encode", &encode, nb::arg("text"), nb::kw_only(), nb::arg("add_special_tokens") = true,
        nb::arg("parse_special") = nb::none(), nb::arg("unknown"),
        nb::sig("def encode(self, text: str, *, add_special_tokens: bool = True, parse_special: bool | None = None) -> "
                "list[int]"),
        "The ids of a text. `parse_special`: whether the text of a special token is read as that token; None: as the "
        "reference library of the file's kind does.");
  c.def("__call__", &encode_each, nb::arg("text"), nb::kw_only(), nb::arg("add_special_tokens") = true,
        nb::arg("parse_special") = nb::none(), nb::arg("unknown"),
        nb::sig("def __call__(self, text: str | list[str] | tuple[str, ...], *, add_special_tokens: bool = True, "
                "parse_special: bool | "
                "None = None) -> list[int] | list[list[int]]"),
        "`encode` of a text, or of each text of a list.");
  c.def("decode", &decode, nb::arg("ids"), nb::kw_only(), nb::arg("skip_special_tokens") = false, nb::arg("unknown"),
        nb::sig("def decode(self, ids: " LATHE_IDS ", *, skip_special_tokens: bool = False) -> str"),
        "The text of ids; always valid UTF-8.");
  c.def("render_chat", &render, nb::arg("messages"), nb::kw_only(), nb::arg("tools") = nb::none(),
        nb::arg("add_generation_prompt") = true, nb::arg("variables"),
        nb::sig("def render_chat" LATHE_CHAT_ARGUMENTS " -> str"), kRenderDoc);
  c.def("encode_chat", &encode_conversation, nb::arg("messages"), nb::kw_only(), nb::arg("tools") = nb::none(),
        nb::arg("add_generation_prompt") = true, nb::arg("variables"),
        nb::sig("def encode_chat" LATHE_CHAT_ARGUMENTS " -> list[int]"),
        "The same as ids. Special tokens that the template writes are read; what a message spells stays text.");
  c.def("token_text", &token_text, nb::arg("id"), "A token as the vocabulary spells it.");
  c.def(
      "token_id", [](const Tokenizer& t, const nb::str& text) { return t.token_id(to_utf8(text)); }, nb::arg("text"),
      nb::sig("def token_id(self, text: str) -> int | None"), "The id of such a spelling, or None.");
  c.def_prop_ro("vocab_size", &Tokenizer::vocab_size, "The largest id + 1.");
  c.def_prop_ro("bos", &Tokenizer::bos, "The id that begins a text, or None.");
  c.def_prop_ro("eos", &Tokenizer::eos, "The id that ends a text, or None.");
  c.def_prop_ro("special_tokens", &Tokenizer::special_tokens, "The ids of control tokens.");
  c.def_prop_ro(
      "chat_template", [](const Tokenizer& t) { return t.chat_template(); }, "The template's source, or None.");
  c.def_prop_ro(
      "kind", [](const Tokenizer& t) { return t.kind(); }, "What it was read from: \"tokenizer.json, BPE\".");
  c.def("__repr__", [](const Tokenizer& t) { return fmt::format("Tokenizer({}, {} ids)", t.kind(), t.vocab_size()); });
}

}  // namespace lathe::python
