// lathe render-chat: what a chat template makes of messages, byte for byte.
#include <fmt/core.h>

#include <memory>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/json_file.h"
#include "cli/model_options.h"
#include "cli/standard_streams.h"
#include "text/chat_template/encode_chat.h"
#include "text/chat_template/lint.h"
#include "text/chat_template/messages.h"

namespace lathe {
namespace {

void print_warnings(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) fmt::print(stderr, "lathe: lint: {}\n", warning);
  if (warnings.empty()) fmt::print(stderr, "lathe: lint: ok\n");
}

}  // namespace

void add_render_chat(CommandLine& app) {
  struct Options {
    std::string model, template_file, messages, tools, now;
    std::vector<std::string> variables;
    bool no_generation_prompt = false, lint = false;
  };
  const auto o = std::make_shared<Options>();
  const Command command = app.add("render-chat", "render messages through a chat template");
  const Option by_model = command.option("--model", o->model, "the model whose template to use");
  const Option by_file = command.option("--template", o->template_file, "a template file");
  by_model.excludes(by_file);
  command.option("--messages", o->messages, "JSON file: a list of {role, content}").required();
  command.option("--tools", o->tools, "JSON file: a list of tools");
  command.flag("--no-generation-prompt", o->no_generation_prompt, "do not begin the assistant's answer");
  command.option("--var", o->variables, "name=value, a variable of the template; may be repeated");
  command.option("--now", o->now, "ISO time that strftime_now sees");
  command.flag("--lint", o->lint, "warn of what is probably wrong, on standard error");
  command.example("Example: lathe render-chat --model models/SmolLM2-135M --messages messages.json");
  command.run([o] {
    if (o->model.empty() && o->template_file.empty()) throw UsageError("expected --model or --template, found neither");
    ChatTemplate::Inputs inputs;
    std::string source = o->template_file;
    std::string text;
    std::shared_ptr<const Tokenizer> tokenizer;
    if (o->model.empty()) {
      text = read_text(o->template_file);
    } else {
      tokenizer = load_tokenizer_of(o->model);
      inputs = chat_inputs(*tokenizer);
      text = chat_template_of(*tokenizer, o->model, !o->tools.empty());
      source = o->model;
    }
    inputs.messages = read_json_file(o->messages);
    check_messages(inputs.messages, o->messages + ": messages");
    if (!o->tools.empty()) inputs.tools = read_json_file(o->tools);
    check_tools(inputs.tools, o->tools + ": tools");
    inputs.add_generation_prompt = !o->no_generation_prompt;
    if (!o->now.empty()) inputs.now = o->now;
    for (const std::string& variable : o->variables) {
      const size_t equals = variable.find('=');
      if (equals == std::string::npos)
        throw UsageError(fmt::format("--var: expected name=value, found \"{}\"", variable));
      inputs.variables[variable.substr(0, equals)] = variable.substr(equals + 1);
    }
    const ChatTemplate chat_template = ChatTemplate::parse(text, source);
    const std::string rendered = chat_template.render(inputs);
    if (o->lint) print_warnings(lint_chat(chat_template, text, inputs, tokenizer.get()));
    write_output(rendered);
  });
}

}  // namespace lathe
