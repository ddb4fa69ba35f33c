// lathe.Tokenizer.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <nlohmann/json.hpp>

#include "chat_template/encode_chat.h"
#include "python/src/arrays.h"
#include "python/src/bindings.h"

namespace lathe::python {
namespace {

// nanobind's holders are not const; every member of a Tokenizer is.
std::shared_ptr<Tokenizer> load(const std::filesystem::path& path, const std::string& pattern) {
  const nb::gil_scoped_release released;
  return std::const_pointer_cast<Tokenizer>(Tokenizer::load(path.string(), pattern));
}

ChatTemplate::Inputs inputs_of(const Tokenizer& t, const nb::list& messages, const nb::object& tools, bool prompt) {
  if (!t.chat_template()) throw Error("chat: the tokenizer has no chat template", "base models continue text");
  ChatTemplate::Inputs inputs = chat_inputs(t);
  inputs.messages = nlohmann::ordered_json::parse(to_json(messages));
  inputs.tools = nlohmann::ordered_json::parse(to_json(tools));
  inputs.add_generation_prompt = prompt;
  return inputs;
}

}  // namespace

void bind_tokenizer(nb::module_& m) {
  nb::class_<Tokenizer> c(m, "Tokenizer",
                          "Text to ids and back, from any published form of vocabulary file.\n\n"
                          "`model.tokenizer` is a model's own.");
  c.def_static("load", &load, nb::arg("path"), nb::arg("pattern") = "",
               "From a folder, a file (tokenizer.json, sentencepiece, tekken, tiktoken, vocab.json) or a GGUF.\n\n"
               "`pattern` is for files that do not say how text is cut: \"gpt2\", \"llama3\", \"qwen\" or a regular "
               "expression.");
  c.def(
      "encode",
      [](const Tokenizer& t, const std::string& text, bool special, std::optional<bool> parse) {
        const nb::gil_scoped_release released;
        using Parse = EncodeOptions::ParseSpecial;
        EncodeOptions options;
        options.add_special_tokens = special;
        options.parse_special = !parse ? Parse::automatic : *parse ? Parse::yes : Parse::no;
        return t.encode(text, options);
      },
      nb::arg("text"), nb::kw_only(), nb::arg("add_special_tokens") = true, nb::arg("parse_special") = nb::none(),
      "The ids of a text. `parse_special`: whether the text of a special token is read as that token; None: as the "
      "reference library of the file's kind does.");
  c.def(
      "decode",
      [](const Tokenizer& t, const Tokens& ids) {
        const nb::gil_scoped_release released;
        return t.decode(view(ids));
      },
      nb::arg("ids"), "The text of ids, special tokens kept; always valid UTF-8.");
  c.def(
      "render_chat",
      [](const Tokenizer& t, const nb::list& messages, const nb::object& tools, bool prompt) {
        const ChatTemplate::Inputs inputs = inputs_of(t, messages, tools, prompt);
        const nb::gil_scoped_release released;
        return ChatTemplate::parse(*t.chat_template()).render(inputs);
      },
      nb::arg("messages"), nb::kw_only(), nb::arg("tools") = nb::none(), nb::arg("add_generation_prompt") = true,
      "A conversation, [{\"role\": ..., \"content\": ...}, ...], as the text that the model was trained on.");
  c.def(
      "encode_chat",
      [](const Tokenizer& t, const nb::list& messages, const nb::object& tools, bool prompt) {
        const ChatTemplate::Inputs inputs = inputs_of(t, messages, tools, prompt);
        const nb::gil_scoped_release released;
        return encode_chat(t, ChatTemplate::parse(*t.chat_template()), inputs);
      },
      nb::arg("messages"), nb::kw_only(), nb::arg("tools") = nb::none(), nb::arg("add_generation_prompt") = true,
      "The same as ids. Special tokens that the template writes are read; what a message spells stays text.");
  c.def("token_text", &Tokenizer::token_text, nb::arg("id"), "A token as the vocabulary spells it.");
  c.def("token_id", &Tokenizer::token_id, nb::arg("text"), "The id of such a spelling, or None.");
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
