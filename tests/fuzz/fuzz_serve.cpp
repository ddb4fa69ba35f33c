// libFuzzer target: what a client may send. The first line names an endpoint, a form's content type or "batch"; the
// rest is its body. Whatever it says, an endpoint makes an answer of it or throws lathe::Error, and what that answer
// makes of some events is JSON: no NaN, no broken character.
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "formats/strict_json.h"
#include "serve/batch_runner.h"
#include "serve/endpoints.h"
#include "serve/multipart.h"
#include "tests/fuzz/input_file.h"
#include "text/unicode/utf8.h"

namespace {

using lathe::OrderedJsonNode;
using Json = nlohmann::ordered_json;

// A tiny Llama with a token a character and a template that takes tools and thinks.
struct Model {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / ("lathe_fuzz_" + std::to_string(getpid()));
  lathe::EngineThread engine;
  lathe::ServedModel served{"tiny", engine, 0};

  Model() : engine([this] { return load(); }, 8, [] {}) {
    while (engine.state() == lathe::EngineThread::State::loading) std::this_thread::yield();
    if (engine.state() == lathe::EngineThread::State::failed) std::abort();
    std::filesystem::remove_all(folder);
  }
  std::unique_ptr<lathe::ChatModel> load() const {
    std::filesystem::create_directories(folder);
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy_file(std::filesystem::path(LATHE_SOURCE_DIR) / "tests/goldens/llama_untied_gqa" / name,
                                 folder / name, std::filesystem::copy_options::overwrite_existing);
    Json vocabulary = Json::object();
    for (const char c : std::string("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ <>{}\":"))
      vocabulary[std::string(1, c)] = vocabulary.size();
    std::ofstream(folder / "tokenizer.json")
        << Json{{"added_tokens", Json::array()},
                {"normalizer", nullptr},
                {"pre_tokenizer", nullptr},
                {"post_processor", nullptr},
                {"decoder", {{"type", "Fuse"}}},
                {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}};
    std::ofstream(folder / "tokenizer_config.json")
        << Json{{"chat_template",
                 "{# <tool_call> <think> #}{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
                 "{% for m in messages %}{{ m.role }}{{ m.content }}{% for c in m.tool_calls or [] %}"
                 "{{ c.function.name }}{{ c.function.arguments }}{% endfor %}{% endfor %}"}};
    return std::make_unique<lathe::ChatModel>(folder.string(), lathe::LoadOptions{lathe::ComputeDtype::float32});
  }
};

lathe::TokenLogprobs some_logprobs(int64_t count) {
  const float least = -std::numeric_limits<float>::infinity();
  lathe::TokenLogprobs of{{1, least}, {}};
  for (int32_t i = 0; i < std::min<int64_t>(count, 3); ++i) of.top.push_back({i, i == 2 ? least : -0.5f});
  return of;
}

// A text with a thought and a call, over several events, of one sequence.
void take_events(lathe::Answer& answer, lathe::Exchange& exchange, const lathe::Request& r, size_t request,
                 int64_t sequence) {
  const char* const pieces[] = {"<thi", "nk>a\xC3\xA9</think>b<tool_call>{\"name\": \"f\", \"arg",
                                "uments\": {\"x\": 1}}</tool_call>", "c"};
  lathe::Completion completion;
  completion.sequence = sequence;
  completion.prompt_tokens = std::ssize(r.prompt);
  completion.text = "";
  completion.embedding = {0.6f, 0.8f};
  for (const char* piece : pieces) {
    lathe::GenerationEvent event;
    event.sequence = sequence;
    event.token = 1;
    event.text = piece;
    *completion.text += piece;
    completion.tokens.push_back(1);
    if (r.logprobs) event.logprobs = completion.logprobs.emplace_back(some_logprobs(*r.logprobs));
    if (r.prompt_logprobs && sequence == 0 && completion.tokens.size() == 1)
      event.prompt_logprobs.assign(r.prompt.size() - 1, some_logprobs(*r.prompt_logprobs));
    if (piece == std::end(pieces)[-1]) event.completion = completion;
    answer.take(exchange, request, event);
  }
}

void check_output(const std::string& text) {
  const auto check_json = [](const std::string& json) {
    if (lathe::first_invalid_utf8(json) || !Json::accept(json)) std::abort();
  };
  if (text.starts_with("{")) return check_json(text);
  for (size_t at = 0; (at = text.find("data: ", at)) != text.npos; at += 6)
    if (const std::string data = text.substr(at + 6, text.find("\n\n", at) - at - 6); data != "[DONE]")
      check_json(data);
}

void answer(std::unique_ptr<lathe::Answer> (*make)(const lathe::ServedModel&, const OrderedJsonNode&),
            const lathe::ServedModel& model, const Json& body) {
  constexpr int64_t kMostSequences = 16;  // more say nothing new
  const std::unique_ptr<lathe::Answer> answer = make(model, {body, "body"});
  const std::vector<lathe::Request> requests = std::move(answer->requests);
  int64_t sequences = 0;
  for (const lathe::Request& r : requests) sequences += r.num_sequences;
  if (sequences > kMostSequences) return;
  lathe::Exchange exchange;
  if (answer->stream) {
    exchange.begin_stream();
    answer->begin(exchange);
  }
  for (size_t i = 0; i < requests.size(); ++i)
    for (int64_t s = 0; s < requests[i].num_sequences; ++s) take_events(*answer, exchange, requests[i], i, s);
  answer->finish(exchange);
  if (!exchange.over()) std::abort();
  check_output(exchange.output());
}

void ask(const std::string& endpoint, const std::string& text) {
  static const Model model;
  const lathe::ServedModel& m = model.served;
  if (endpoint.starts_with("multipart/")) return (void)lathe::parse_form(endpoint, text);
  if (endpoint == "batch") {
    const lathe::test::InputFile file(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    return (void)lathe::check_batch_file(file.path(), "/v1/completions");
  }
  const Json body = lathe::parse_ordered_json(text, "body");
  const OrderedJsonNode node(body, "body");
  if (endpoint == "/v1/completions") answer(lathe::make_completion, m, body);
  if (endpoint == "/v1/chat/completions") answer(lathe::make_chat_completion, m, body);
  if (endpoint == "/v1/responses") answer(lathe::make_response, m, body);
  if (endpoint == "/v1/messages") answer(lathe::make_message, m, body);
  if (endpoint == "/v1/embeddings") answer(lathe::make_embedding, m, body);
  if (endpoint == "/v1/similarity") answer(lathe::make_similarity, m, body);
  if (endpoint == "/v1/messages/count_tokens") check_output(lathe::dump_json(lathe::count_message_tokens(m, node)));
  if (endpoint == "/v1/responses/input_tokens") check_output(lathe::dump_json(lathe::count_response_tokens(m, node)));
  if (endpoint == "/tokenize") check_output(lathe::dump_json(lathe::tokenize(m, node)));
  if (endpoint == "/detokenize") check_output(lathe::dump_json(lathe::detokenize(m, node)));
  if (endpoint == "/render") check_output(lathe::dump_json(lathe::render(m, node)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(input.find('\n'), size);
  try {
    ask(input.substr(0, line), input.substr(std::min(line + 1, size)));
  } catch (const lathe::Error&) {}
  return 0;
}
