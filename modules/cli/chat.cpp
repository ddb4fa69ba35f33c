// lathe chat: a conversation in the terminal, or with one message a line from a pipe.
#include <fmt/core.h>

#include "cli/chat_session.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/line_reader.h"
#include "cli/profile_report.h"

namespace lathe {
namespace {

struct ChatOptions {
  ModelOptions model;
  RequestOptions request;
  std::string system;
};

// In a terminal an error is told and the chat goes on; from a pipe it ends the program, as everywhere else.
void run_chat(const ChatOptions& o) {
  ChatSession session(o.model, o.request, o.system);
  if (session.follow()) return;
  ProfileReport profile(o.model);
  LineReader reader(default_history_file());
  if (reader.is_terminal())
    fmt::print(stderr, "lathe: /help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves\n");
  while (true) {
    std::string text;
    const LineEditor::Outcome outcome = reader.read(text);
    if (outcome == LineEditor::Outcome::end) return profile.finish();
    if (outcome == LineEditor::Outcome::interrupted) {
      if (text.empty()) fmt::print(stderr, "lathe: Ctrl-D or /exit leaves\n");
      continue;
    }
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) continue;
    try {
      if (!text.starts_with('/'))
        session.ask(text);
      else if (text.starts_with("//"))
        session.ask(text.substr(1));
      else if (!session.command(text))
        return profile.finish();
    } catch (const Error& e) {
      if (!reader.is_terminal()) throw;
      fmt::print(stderr, "lathe: error: {}\n", e.what());
      if (!e.hint().empty()) fmt::print(stderr, "  hint: {}\n", e.hint());
    }
  }
}

}  // namespace

void add_chat(CommandLine& app) {
  const auto o = std::make_shared<ChatOptions>();
  const Command command = app.add("chat", "a conversation with an instruct model");
  o->model.declare(command);
  command.option("--system", o->system, "the system message");
  o->request.max_new_tokens = 1024;
  declare(command, o->request);
  command.remove("--num-sequences");
  command.remove("--logprobs");
  command.example(
      "Example: lathe chat --model models/SmolLM2-135M-Instruct.Q4_1.gguf --system 'Answer in one sentence.'");
  command.run([o] {
    read_named_files(o->request);
    run_chat(*o);
  });
}

}  // namespace lathe
