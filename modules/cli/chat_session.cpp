#include "cli/chat_session.h"

#include <fmt/core.h>

#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/engine_options.h"
#include "cli/standard_streams.h"
#include "formats/atomic_file.h"
#include "generate/generate.h"
#include "text/chat_template/encode_chat.h"

namespace lathe {
namespace {

volatile std::sig_atomic_t interrupted = 0;

// Ctrl-C means "stop the answer" while there is one, and what it meant before at any other time.
class Interruptible {
 public:
  Interruptible() : before_(std::signal(SIGINT, [](int) { interrupted = 1; })) { interrupted = 0; }
  ~Interruptible() { std::signal(SIGINT, before_); }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  void (*before_)(int);
};

constexpr const char* help =
    "/clear               forget the conversation\n"
    "/undo                take the last question and its answer back\n"
    "/retry               answer the last question again\n"
    "/set NAME VALUE      an option of the answers, such as /set temperature 0.7\n"
    "/save F, /load F     the messages as JSON\n"
    "/exit                leave, as Ctrl-D does\n"
    "Ctrl-C stops an answer; a backslash at the end of a line goes on in the next; //text sends /text.\n";

}  // namespace

ChatSession::ChatSession(const ModelOptions& model, const RequestOptions& request, const std::string& system)
    : request_(request),
      model_(load_chat_model(model, {}, [](const LoadedModel&, EngineOptions& engine) { engine.max_sequences = 1; })),
      template_(ChatTemplate::parse(chat_template_of(*model_.tokenizer(), model.model), model.model)),
      conversation_(system) {}

void ChatSession::ask(const std::string& message) {
  const Conversation before = conversation_;
  conversation_.add("user", message);
  answer(before);
}

// A partial answer stays in the conversation as it is: the user has seen it. One of which nothing was seen does not.
// Where there is no answer the conversation is `otherwise` again.
void ChatSession::answer(const Conversation& otherwise) try {
  const Tokenizer& tokenizer = *model_.tokenizer();
  ChatTemplate::Inputs inputs = chat_inputs(tokenizer);
  inputs.messages = conversation_.messages();
  Request own = model_.request(encode_chat(tokenizer, template_, inputs));
  const int64_t context = model_.engine().context();
  if (std::ssize(own.prompt) >= context)
    throw Error(fmt::format("the conversation has {} tokens, the context holds {}", own.prompt.size(), context),
                "/clear or /undo makes room, a larger --context may too");
  GenerateCallbacks callbacks;
  callbacks.interrupted = [] { return interrupted != 0; };
  callbacks.on_event = [](size_t, const GenerationEvent& event) { write_output(event.text); };
  const Interruptible interruptible;
  const auto result = generate(model_.engine(), {request_.over(std::move(own))}, callbacks);
  const Completion& completion = result.completions.at(0).at(0);
  write_output("\n");
  if (completion.finish_reason == FinishReason::error) throw Error(completion.error);
  if (completion.finish_reason == FinishReason::length)
    fmt::print(stderr, "lathe: the answer was cut at {} tokens; /set max-new-tokens N allows more\n",
               completion.tokens.size());
  if (completion.finish_reason == FinishReason::cancelled && completion.text->empty())
    throw Error("stopped before the answer began; the message was taken back");
  if (completion.finish_reason == FinishReason::cancelled)
    fmt::print(stderr, "lathe: stopped; the answer stays as it is, /retry asks again, /undo takes both back\n");
  conversation_.add("assistant", *completion.text);
} catch (...) {
  conversation_ = otherwise;
  throw;
}

void ChatSession::set(const std::string& name, const std::string& value) {
  nlohmann::ordered_json parsed = nlohmann::ordered_json::parse(value, nullptr, false);
  if (parsed.is_discarded()) parsed = value;
  RequestOptions changed = request_;
  const nlohmann::ordered_json setting = {{name, parsed}};
  changed.read({setting, "/set", " "});
  if (name == "temperature") changed.greedy = false;
  if (changed.num_sequences != 1) throw Error("/set num-sequences: a chat has one answer");
  request_ = std::move(changed);
}

bool ChatSession::command(const std::string& line) {
  const auto after = [&](size_t from) { return std::min(line.find_first_not_of(' ', from), line.size()); };
  const size_t end = std::min(line.find(' '), line.size());
  const std::string name = line.substr(0, end), argument = line.substr(after(end));
  if (name == "/exit" || name == "/quit") return false;
  if (name == "/help") {
    fmt::print(stderr, "{}", help);
  } else if (name == "/clear") {
    conversation_.clear();
  } else if (name == "/undo") {
    if (!conversation_.undo()) throw Error("there is no question to take back");
  } else if (name == "/retry") {
    const Conversation before = conversation_;
    if (!conversation_.drop_answer()) throw Error("there is no question to answer again");
    answer(before);
  } else if ((name == "/save" || name == "/load") && !argument.empty()) {
    if (name == "/save") check_not_input(argument, model_.loaded().checkpoint.files);
    name == "/save" ? conversation_.save(argument) : conversation_.load(argument);
    fmt::print(stderr, "lathe: {} messages in {}\n", conversation_.messages().size(), argument);
  } else if (const size_t space = argument.find(' '); name == "/set" && space != std::string::npos) {
    set(argument.substr(0, space), argument.substr(argument.find_first_not_of(' ', space)));
  } else {
    throw Error(fmt::format("\"{}\" is no command", line), "/help lists them");
  }
  return true;
}

}  // namespace lathe
