// lathe generate: continue a prompt, answer a message, or run a file of requests as one batch.
#include "generate/generate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/json_file.h"
#include "cli/profile_report.h"
#include "cli/request_file.h"
#include "cli/standard_streams.h"
#include "tensor/process_memory.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

volatile std::sig_atomic_t interruption_asked = 0;

struct GenerateOptions {
  ModelOptions model;
  RequestOptions request;
  std::string prompt, prompt_file, tokens, system, batch, speculate;
  bool chat = false, json = false, stream = true;
};

Prompt single_prompt(const GenerateOptions& o, bool prompt_given) {
  Prompt prompt;
  if (!o.tokens.empty()) {
    if (o.chat) throw UsageError("--chat needs text, found --tokens");
    prompt.tokens = parse_tokens(o.tokens);
    return prompt;
  }
  const std::string text = prompt_given ? o.prompt : read_text(o.prompt_file.empty() ? "-" : o.prompt_file);
  if (!o.chat) {
    if (!o.system.empty()) throw UsageError("--system needs --chat");
    prompt.text = text;
    return prompt;
  }
  prompt.messages = Json::array();
  if (!o.system.empty()) prompt.messages.push_back({{"role", "system"}, {"content", o.system}});
  prompt.messages.push_back({{"role", "user"}, {"content", text}});
  return prompt;
}

// Null where there is none and only ids are given, which need none: their answers have no text.
const Tokenizer* tokenizer_for(const std::vector<PromptedRequest>& sources, const ChatModel& model) {
  const bool has_text = std::any_of(sources.begin(), sources.end(), [](const PromptedRequest& s) {
    return !s.prompt.tokens || !s.options.stop.empty();
  });
  return has_text || model.has_tokenizer() ? model.tokenizer().get() : nullptr;
}

// Throws Error naming the line of a file whose request the engine would refuse, before any of them is begun.
Request request_of(const PromptedRequest& source, const GenerateOptions& o, const Tokenizer* tokenizer,
                   ChatModel& model) try {
  Request request = source.options.over(model.request(prompt_tokens(source.prompt, tokenizer, o.model.model)));
  model.engine().check_request(request);
  return request;
} catch (const Error& e) {
  if (source.where.empty()) throw;
  throw Error(fmt::format("{}: {}", source.where, e.what()), e.hint());
}

void print_timing(const GenerationTiming& t, bool verbose) {
  fmt::print(stderr, "lathe: prompt {} tokens, {:.1f} tokens/s; answer {} tokens, {:.1f} tokens/s\n", t.prefill_tokens,
             t.prefill_tokens_per_second(), t.decode_tokens, t.decode_tokens_per_second());
  if (verbose)
    fmt::print(stderr, "lathe: peak resident memory {:.1f} MB\n", static_cast<double>(peak_resident_memory()) / 1e6);
}

void print_results(const GenerateOptions& o, const GenerationResult& result, double load_seconds, bool streamed) {
  const Json timing = {{"load_s", load_seconds},
                       {"prefill_tokens_per_second", result.timing.prefill_tokens_per_second()},
                       {"decode_tokens_per_second", result.timing.decode_tokens_per_second()}};
  for (const std::vector<Completion>& completions : result.completions) {
    Json list = Json::array();
    for (const Completion& c : completions) {
      if (c.finish_reason == FinishReason::error) throw Error(c.error);
      list.push_back(to_json(c));
      list.back()["timing"] = timing;
      if (!o.json && o.batch.empty() && !streamed)
        fmt::print("{}\n", c.text.value_or(fmt::format("{}", fmt::join(c.tokens, ","))));
    }
    if (o.json || !o.batch.empty())
      fmt::print("{}\n", dump_line(list.size() == 1 ? list[0] : Json{{"sequences", list}}));
  }
}

void run_generate(const GenerateOptions& o, bool prompt_given) {
  std::vector<PromptedRequest> sources =
      o.batch.empty() ? std::vector<PromptedRequest>{{single_prompt(o, prompt_given), o.request, ""}}
                      : read_requests(o.batch, o.request);
  const auto start = std::chrono::steady_clock::now();
  ChatModel model = load_chat_model(o.model, o.speculate);
  const Tokenizer* tokenizer = tokenizer_for(sources, model);
  Engine& engine = model.engine();
  if (engine.follow()) return;
  const std::chrono::duration<double> load_time = std::chrono::steady_clock::now() - start;

  if (tokenizer && tokenizer->chat_template() && sources[0].prompt.text && !o.chat)
    fmt::print(stderr, "lathe: hint: this model has a chat template; --chat sends the prompt as a user's message\n");
  std::vector<Request> requests;
  for (const PromptedRequest& s : sources) requests.push_back(request_of(s, o, tokenizer, model));

  const bool streaming = o.stream && !o.json && o.batch.empty() && tokenizer && o.request.num_sequences == 1;
  GenerateCallbacks callbacks;
  callbacks.interrupted = [] { return interruption_asked != 0; };
  callbacks.on_event = [&](size_t, const GenerationEvent& event) {
    if (!streaming) return;
    write_output(event.text);
  };
  std::signal(SIGINT, [](int) { interruption_asked = 1; });
  ProfileReport profile(o.model);
  const GenerationResult result = generate(engine, requests, callbacks);
  if (streaming) fmt::print("\n");
  print_results(o, result, load_time.count(), streaming);
  std::fflush(stdout);  // before the timing appears on standard error
  print_timing(result.timing, o.model.verbose);
  profile.finish();
  if (!o.speculate.empty()) print_speculation(engine.speculation());
  if (interruption_asked != 0) throw Error("interrupted");
}

}  // namespace

void add_generate(CommandLine& app) {
  const auto o = std::make_shared<GenerateOptions>();
  const Command command = app.add("generate", "continue a prompt or answer a message");
  o->model.declare(command);
  const Option prompt = command.option("--prompt", o->prompt, "the text; without any prompt, standard input is read");
  const Option file = command.option("--prompt-file", o->prompt_file, "a file with the text");
  const Option tokens = command.option("--tokens", o->tokens, "ids separated by commas");
  const Option batch =
      command.option("--batch", o->batch, "JSON Lines: prompt, messages or tokens, and options; one answer a line");
  prompt.excludes(file).excludes(tokens).excludes(batch);
  file.excludes(tokens).excludes(batch);
  tokens.excludes(batch);
  command.flag("--chat", o->chat, "the prompt is a user's message, through the model's template");
  command.option("--system", o->system, "the system message, with --chat");
  declare(command, o->request);
  command.option("--speculate", o->speculate,
                 "guess tokens ahead and verify them, which changes no answer: ngram, or a smaller model");
  command.flag("--stream,!--no-stream", o->stream, "print the text as it comes (default)");
  command.flag("--json", o->json, "one JSON object");
  command.example(
      "Example: lathe generate --model models/SmolLM2-135M-Instruct.Q4_1.gguf --chat --prompt 'Name a colour.'");
  command.run([o, prompt] {
    read_named_files(o->request);
    run_generate(*o, prompt.given());
  });
}

}  // namespace lathe
