// lathe render-chat: what a chat template makes of messages, byte for byte.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "chat_template/chat_template.h"
#include "cli/commands.h"
#include "cli/model_options.h"

namespace lathe {
namespace {

nlohmann::ordered_json read_json(const std::string& path) {
  try {
    return nlohmann::ordered_json::parse(read_text(path));
  } catch (const nlohmann::json::exception& e) {
    throw Error(fmt::format("{}: expected JSON: {}", path, e.what()));
  }
}

}  // namespace

void add_render_chat(CLI::App& app) {
  struct Options {
    std::string model, template_file, messages, tools, now;
    std::vector<std::string> variables;
    bool no_generation_prompt = false;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("render-chat", "render messages through a chat template");
  auto* by_model = command->add_option("--model", o->model, "the model whose template to use");
  auto* by_file = command->add_option("--template", o->template_file, "a template file");
  by_model->excludes(by_file);
  command->add_option("--messages", o->messages, "JSON file: a list of {role, content}")->required();
  command->add_option("--tools", o->tools, "JSON file: a list of tools");
  command->add_flag("--no-generation-prompt", o->no_generation_prompt, "do not begin the assistant's answer");
  command->add_option("--var", o->variables, "name=value, a variable of the template; may be repeated");
  command->add_option("--now", o->now, "ISO time that strftime_now sees");
  command->footer("Example: lathe render-chat --model models/SmolLM2-135M --messages messages.json");
  command->callback([o] {
    if (o->model.empty() && o->template_file.empty()) throw UsageError("expected --model or --template, found neither");
    ChatTemplate::Inputs inputs;
    std::string source = o->template_file;
    std::string text;
    if (o->model.empty()) {
      text = read_text(o->template_file);
    } else {
      const auto tokenizer = load_tokenizer_of(o->model);
      inputs = chat_inputs(*tokenizer);
      text = chat_template_of(*tokenizer, o->model);
      source = o->model;
    }
    inputs.messages = read_json(o->messages);
    if (!o->tools.empty()) inputs.tools = read_json(o->tools);
    inputs.add_generation_prompt = !o->no_generation_prompt;
    if (!o->now.empty()) inputs.now = o->now;
    for (const std::string& variable : o->variables) {
      const size_t equals = variable.find('=');
      if (equals == std::string::npos)
        throw UsageError(fmt::format("--var: expected name=value, found \"{}\"", variable));
      inputs.variables[variable.substr(0, equals)] = variable.substr(equals + 1);
    }
    const std::string rendered = ChatTemplate::parse(text, source).render(inputs);
    check(std::fwrite(rendered.data(), 1, rendered.size(), stdout) == rendered.size(), "standard output",
          "cannot be written");
  });
}

}  // namespace lathe
