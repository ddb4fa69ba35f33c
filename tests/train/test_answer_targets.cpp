// Which tokens of conversations and completions are learnt.
#include <nlohmann/json.hpp>
#include <set>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/train/data_files.h"
#include "text/chat_template/encode_chat.h"
#include "train/answer_targets.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Json = nlohmann::ordered_json;

namespace {

std::shared_ptr<const Tokenizer> load(const std::string& tokenizer_json) {
  const TemporaryDirectory folder;
  write_file(folder.path() / "tokenizer.json", tokenizer_json);
  return Tokenizer::load(folder.path().string());
}

// What is learnt of a conversation, in brackets.
std::string answers(const Tokenizer& tokenizer, const std::string& source, const Json& messages,
                    const Json& arguments = Json::object(), const Json& tools = nullptr, size_t given = 0) {
  ChatTemplate::Inputs inputs = chat_inputs(tokenizer);
  inputs.messages = messages;
  inputs.arguments = arguments;
  inputs.tools = tools;
  inputs.now = "2024-07-26";
  return marked(tokenizer, encode_answers(tokenizer, ChatTemplate::parse(source), inputs, given));
}

Json message(const char* role, const char* content) { return {{"role", role}, {"content", content}}; }

const Json kTurns = {message("system", "S"), message("user", "A"), message("assistant", " B "), message("user", "C"),
                     message("assistant", "D")};

constexpr const char* kChatMl =
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}";

}  // namespace

TEST_CASE("answers: each turn of the assistant with the token that ends it, and nothing of the template") {
  const auto tokenizer = load(byte_tokenizer({"<|end|>", "<|start|>"}));
  CHECK(answers(*tokenizer, kChatMl, kTurns) ==
        "<|start|>system\nS<|end|>\n<|start|>user\nA<|end|>\n<|start|>assistant\n[ B <|end|>]\n"
        "<|start|>user\nC<|end|>\n<|start|>assistant\n[D<|end|>]\n");
  CHECK(answers(*tokenizer, kChatMl, kTurns, {}, nullptr, 3) ==
        "<|start|>system\nS<|end|>\n<|start|>user\nA<|end|>\n<|start|>assistant\n B <|end|>\n"
        "<|start|>user\nC<|end|>\n<|start|>assistant\n[D<|end|>]\n");
  // The content of a turn that writes the token is text, and does not end it.
  CHECK(answers(*tokenizer, kChatMl, {message("user", "A"), message("assistant", "x<|end|>y")}) ==
        "<|start|>user\nA<|end|>\n<|start|>assistant\n[x<|end|>y<|end|>]\n");
  CHECK(answers(*tokenizer, kChatMl, {message("user", "A"), message("assistant", "")}) ==
        "<|start|>user\nA<|end|>\n<|start|>assistant\n[<|end|>]\n");
  CHECK(answers(*tokenizer, kChatMl, Json::array({message("user", "A")})) == "<|start|>user\nA<|end|>\n");
}

TEST_CASE("answers: {% generation %} decides nothing") {
  const auto tokenizer = load(byte_tokenizer({"<|end|>"}));
  const char* source =
      "{% for m in messages %}{% generation %}{{ m.role[0] }}:{% endgeneration %}{{ m.content }}<|end|>{% endfor %}"
      "{% if add_generation_prompt %}a:{% endif %}";
  CHECK(answers(*tokenizer, source, {message("user", "A"), message("assistant", "B")}) == "u:A<|end|>a:[B<|end|>]");
}

TEST_CASE("answers: a token over the seam is learnt") {
  // "\xC4\xA0" is a space in GPT-2's spelling.
  const auto tokenizer = load(byte_tokenizer({"<|end|>"}, {"\xC4\xA0 d", "! !"}));
  const char* source =
      "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}!{% endfor %}{% if add_generation_prompt %}a: {% endif "
      "%}";
  const std::vector<int32_t> whole = tokenizer->encode("u: c!a: do!!");
  CHECK(std::count(whole.begin(), whole.end(),
                   *tokenizer->token_id("\xC4\xA0"
                                        "d")) == 1);
  // The space before the answer belongs to its first token, the template's mark to its last.
  CHECK(answers(*tokenizer, source, {message("user", "c"), message("assistant", "do!")}) == "u: c!a:[ do!!]");
}

TEST_CASE("answers: templates that render a conversation otherwise than its beginnings") {
  const auto tokenizer = load(byte_tokenizer({"<|end|>", "<|start|>", "<think>", "</think>"}));
  // Reasoning is kept in the last turn alone, where an empty one is written, too; without thinking it is in the prompt.
  const std::string thinking =
      "{% for m in messages %}<|start|>{{ m.role[0] }}\n"
      "{% if loop.last and m.role == 'assistant' %}<think>{{ m.thinking }}</think>{% endif %}"
      "{{ m.content }}<|end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|start|>a\n{% if enable_thinking is false %}<think></think>{% endif %}{% endif "
      "%}";
  Json turns = {message("user", "A"), message("assistant", "<B"), message("user", "C"), message("assistant", "<D")};
  CHECK(
      answers(*tokenizer, thinking, turns) ==
      "<|start|>u\nA<|end|>\n<|start|>a\n[<B<|end|>]\n<|start|>u\nC<|end|>\n<|start|>a\n[<think></think><D<|end|>]\n");
  CHECK(
      answers(*tokenizer, thinking, turns, {{"enable_thinking", false}}) ==
      "<|start|>u\nA<|end|>\n<|start|>a\n[<B<|end|>]\n<|start|>u\nC<|end|>\n<|start|>a\n<think></think>[<D<|end|>]\n");
  turns[1]["reasoning"] = turns[3]["reasoning"] = "R";
  CHECK(
      answers(*tokenizer, thinking, turns) ==
      "<|start|>u\nA<|end|>\n<|start|>a\n[<B<|end|>]\n<|start|>u\nC<|end|>\n<|start|>a\n[<think>R</think><D<|end|>]\n");

  // The system prompt goes into the last message, where that is a user's.
  const std::string moving =
      "{% for m in messages %}{% if m.role == 'user' %}[{{ 'S ' if loop.last else '' }}{{ m.content }}]"
      "{% else %} {{ m.content }}<|end|>{% endif %}{% endfor %}";
  CHECK(answers(*tokenizer, moving, turns) == "[A][ <B<|end|>][C][ <D<|end|>]");

  // No beginning can be rendered at all: the answer begins with its content.
  const std::string strict =
      "{% if messages|length != 4 %}{{ raise_exception('four') }}{% endif %}"
      "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<|end|>\n{% endfor %}";
  CHECK(answers(*tokenizer, strict, turns) == "u:A<|end|>\na:[<B<|end|>]\nu:C<|end|>\na:[<D<|end|>]\n");
  // Contents that differ within a character.
  turns[1]["content"] = "\xE2\xA0\x80";
  CHECK(answers(*tokenizer, strict, turns) == "u:A<|end|>\na:[\xE2\xA0\x80<|end|>]\nu:C<|end|>\na:[<D<|end|>]\n");
  CHECK_THROWS_WITH(answers(*tokenizer, "{% if messages|length != 4 %}{{ raise_exception('no') }}{% endif %}x", turns),
                    ContainsSubstring("messages[1]: the answer cannot be found in what the template makes"));
}

TEST_CASE("answers: what a template writes behind the end of a turn is not learnt, several messages of one turn are") {
  const auto tokenizer = load(byte_tokenizer({"<|end|>", "<|endoftext|>"}));
  const std::string closing =
      "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<|end|>\n{% endfor %}"
      "{% if add_generation_prompt %}a:{% else %}<|endoftext|>{% endif %}";
  const Json turns = {message("user", "A"), message("assistant", "B"), message("user", "C"), message("assistant", "D")};
  CHECK(answers(*tokenizer, closing, turns) == "u:A<|end|>\na:[B<|end|>]\nu:C<|end|>\na:[D<|end|>]\n<|endoftext|>");
  const std::string channels =
      "{% for m in messages %}{{ m.role[0] }}{% if m.role == 'assistant' %}:think<|end|>a{% endif %}:{{ m.content "
      "}}<|end|>"
      "{% endfor %}{% if add_generation_prompt %}a{% endif %}";
  CHECK(answers(*tokenizer, channels, turns) ==
        "u:A<|end|>a[:think<|end|>a:B<|end|>]u:C<|end|>a[:think<|end|>a:D<|end|>]");
  // Without such a token a turn ends where the next one begins.
  CHECK(answers(*tokenizer, "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}", turns) ==
        "u:A\n[a:B\n]u:C\n[a:D\n]");
}

TEST_CASE("completions: what follows the prompt, with the end of the text") {
  const auto tokenizer = load(byte_tokenizer({"<|end|>"}, {"\xC4\xA0 d"}));
  const auto completion = [&](const char* prompt, const char* text, int32_t end) {
    return marked(*tokenizer, encode_completion(*tokenizer, prompt, text, end));
  };
  CHECK(completion("Q: A:", " do", 0) == "Q: A:[ do<|end|>]");
  CHECK(completion("Q: A: ", "do", 0) == "Q: A:[ do<|end|>]");
  CHECK(completion("Q: A: ", "to", -1) == "Q: A: [to]");
  CHECK(completion("", "to", 0) == "[to<|end|>]");
  CHECK(completion("to", "", 0) == "to[<|end|>]");
}

namespace {

// A published template with the vocabulary that goes with it.
std::string published(const std::filesystem::path& shared, const char* vocabulary, const char* source,
                      const Json& messages, const Json& arguments = Json::object(), const Json& tools = nullptr) {
  const auto tokenizer = Tokenizer::load((shared / "tokenizers" / vocabulary).string());
  const std::string text =
      *source ? read_file(shared / "chat_templates/templates" / source) : *tokenizer->chat_template();
  return answers(*tokenizer, text, messages, arguments, tools);
}

}  // namespace

TEST_CASE("answers: published templates with their vocabularies") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers and ../shared/chat_templates");
  CHECK_THAT(published(*shared, "llama3_1", "meta-llama-Llama-3.1-8B-Instruct.jinja", kTurns),
             Catch::Matchers::EndsWith(
                 "S<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>assistant"
                 "<|end_header_id|>\n\n[B<|eot_id|>]<|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|>"
                 "<|start_header_id|>assistant<|end_header_id|>\n\n[D<|eot_id|>]"));
  CHECK(published(*shared, "gemma3", "", kTurns) ==
        "<bos><start_of_turn>user\nS\n\nA<end_of_turn>\n<start_of_turn>model\n[B<end_of_turn>]\n"
        "<start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n[D<end_of_turn>]\n");
  const std::string qwen =
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n[ B <|im_end|>]\n"
      "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n";
  CHECK(published(*shared, "qwen3", "", kTurns) == qwen + "[<think>\n\n</think>\n\nD<|im_end|>]\n");
  CHECK(published(*shared, "qwen3", "", kTurns, {{"enable_thinking", false}}) ==
        qwen + "<think>\n\n</think>\n\n[D<|im_end|>]\n");
  Json reasoning = kTurns;
  reasoning[2]["content"] = "<think>\nb?\n</think>\n\n B ";
  reasoning[4]["reasoning_content"] = "d?";
  CHECK(published(*shared, "qwen3", "", reasoning) == qwen + "[<think>\nd?\n</think>\n\nD<|im_end|>]\n");
}

TEST_CASE("answers: Mistral's templates, which mark turns in the text or move what stands before the last") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers and ../shared/chat_templates");
  const char* nemo = "mistralai-Mistral-Nemo-Instruct-2407.jinja";
  CHECK(published(*shared, "mistral_tekken_v3/tekken.json", nemo, kTurns) ==
        "<s>[INST]A[/INST][ B </s>][INST]C[/INST][D</s>]");
  // That of Mistral 7B, as published on one line.
  const std::string turns =
      "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
      "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}";
  const auto llama = Tokenizer::load((*shared / "tokenizers/llama2").string());
  CHECK(answers(*llama, turns, kTurns) == "<s> [INST] A [/INST][ B </s>] [INST] C [/INST][D</s>]");

  const Json call = {
      {"type", "function"}, {"id", "123456789"}, {"function", {{"name", "f"}, {"arguments", {{"x", 1}}}}}};
  Json messages = {message("user", "A"),      message("assistant", ""), message("tool", "7"),
                   message("assistant", "B"), message("user", "C"),     message("assistant", "D")};
  messages[1]["tool_calls"] = Json::array({call});
  messages[2]["tool_call_id"] = "123456789";
  const Json tools =
      Json::array({{{"type", "function"}, {"function", {{"name", "f"}, {"parameters", Json::object()}}}}});
  CHECK(published(*shared, "mistral_tekken_v3/tekken.json", nemo, messages, {}, tools) ==
        "<s>[INST]A[/INST][[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"x\": 1}, \"id\": \"123456789\"}]</s>]"
        "[TOOL_RESULTS]{\"content\": 7, \"call_id\": \"123456789\"}[/TOOL_RESULTS][B</s>][AVAILABLE_TOOLS][{\"type\": "
        "\"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}][/AVAILABLE_TOOLS][INST]C[/INST][D</s>]");
  CHECK_THAT(published(*shared, "qwen3", "", messages, {}, tools),
             ContainsSubstring("A<|im_end|>\n<|im_start|>assistant\n[<tool_call>\n{\"name\": \"f\", \"arguments\": "
                               "{\"x\": 1}}\n</tool_call><|im_end|>]\n<|im_start|>user\n<tool_response>\n7\n"
                               "</tool_response><|im_end|>\n<|im_start|>assistant\n[B<|im_end|>]\n"));
}

TEST_CASE(
    "answers: of every published template that takes the conversation, all of the assistant's and nothing of the "
    "user's") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers and ../shared/chat_templates");
  // Most of their end tokens are no tokens here: then an answer ends with its content, or where the next turn begins.
  const auto tokenizer = Tokenizer::load((*shared / "tokenizers/qwen3").string());
  const Json turns = {message("system", "SYS."), message("user", "USER one"), message("assistant", "ALPHA one."),
                      message("user", "USER two"), message("assistant", "BETA two.")};
  std::set<std::string> refused;
  for (const auto& entry : std::filesystem::directory_iterator(*shared / "chat_templates/templates")) {
    const std::string name = entry.path().stem();
    CAPTURE(name);
    ChatTemplate::Inputs inputs;
    inputs.messages = turns;
    inputs.variables = {{"bos_token", "<|im_start|>"}, {"eos_token", "<|im_end|>"}};
    inputs.now = "2024-07-26";
    try {
      std::string learnt, other;
      for (const int32_t id : encode_answers(*tokenizer, ChatTemplate::parse(read_file(entry.path())), inputs))
        (id >= 0 ? learnt : other) += tokenizer->token_bytes(id < 0 ? ~id : id);
      CHECK_THAT(learnt, ContainsSubstring("ALPHA one.") && ContainsSubstring("BETA two.") &&
                             !ContainsSubstring("USER") && !ContainsSubstring("SYS"));
      CHECK_THAT(other, !ContainsSubstring("ALPHA") && !ContainsSubstring("BETA"));
    } catch (const Error&) {
      refused.insert(name);
    }
  }
  CHECK(refused == std::set<std::string>{"fireworks-ai-llama-3-firefunction-v2", "google-gemma-2-2b-it",
                                         "vllm-tool_chat_template_hermes_2_pro"});
}

TEST_CASE("answers: SmolLM2's template and vocabulary, from its GGUF file") {
  const auto model = demo_model();
  if (!model) return skip("needs models/SmolLM2-135M-Instruct.Q4_1.gguf");
  const auto tokenizer = Tokenizer::load(model->string());
  CHECK(answers(*tokenizer, *tokenizer->chat_template(), kTurns) ==
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n[ B <|im_end|>]\n"
        "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n[D<|im_end|>]\n");
}
