// Chat templates; see the header. The language is in the other files of the folder.
#include "text/chat_template/chat_template.h"

#include <ctime>

#include "tensor/errors.h"
#include "text/chat_template/ast.h"
#include "text/chat_template/interpreter.h"
#include "text/chat_template/messages.h"

namespace lathe {

struct ChatTemplate::Program {
  std::string name;
  jinja::ast::Body body;
};

namespace {

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm time{};
  localtime_r(&now, &time);
  return time;
}

// "2024-07-26", "2024-07-26T09:05" or "2024-07-26T09:05:03"; a fraction of a second and a zone are read and left.
std::tm parse_time(const std::string& text) {
  int fields[6] = {0, 0, 0, 0, 0, 0};
  constexpr std::string_view form = "dddd-dd-ddTdd:dd:dd";
  bool is_valid = text.size() >= 10;
  std::size_t field = 0, position = 0;
  for (; is_valid && position < std::min(text.size(), form.size()); ++position) {
    const char wanted = form[position], found = text[position];
    if (wanted == 'd') {
      is_valid = found >= '0' && found <= '9';
      fields[field] = fields[field] * 10 + (found - '0');
    } else {
      is_valid = found == wanted || (wanted == 'T' && found == ' ');
      ++field;
    }
  }
  is_valid = is_valid && (position == 10 || position == 16 || position == 19);
  is_valid = is_valid && text.find_first_not_of("0123456789.:+-Z", position) == std::string::npos;
  std::tm time{};
  time.tm_year = fields[0] - 1900, time.tm_mon = fields[1] - 1, time.tm_mday = fields[2];
  time.tm_hour = fields[3], time.tm_min = fields[4], time.tm_sec = fields[5];
  const std::tm given = time;
  timegm(&time);  // fills in the day of the week and of the year, and moves what is no date, such as February 30
  is_valid = is_valid && time.tm_mday == given.tm_mday && time.tm_mon == given.tm_mon &&
             time.tm_hour == given.tm_hour && time.tm_min == given.tm_min && time.tm_sec == given.tm_sec;
  check(is_valid, "chat template", "the time is '{}', expected one like 2024-07-26T09:05:03", text);
  return time;
}

}  // namespace

ChatTemplate::ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

ChatTemplate ChatTemplate::parse(std::string_view source, std::string name) {
  try {
    jinja::ast::Body body = jinja::parse_template(source);
    return ChatTemplate(std::make_shared<const Program>(Program{std::move(name), std::move(body)}));
  } catch (const Error& error) {
    throw Error(name + ": " + error.what(), error.hint());
  }
}

std::string ChatTemplate::render(const Inputs& inputs) const {
  std::vector<std::string> unknown;
  return render(inputs, unknown);
}

std::vector<std::string> ChatTemplate::unknown_variables(const Inputs& inputs) const {
  std::vector<std::string> unknown;
  render(inputs, unknown);
  return unknown;
}

std::string ChatTemplate::render(const Inputs& inputs, std::vector<std::string>& unknown_variables) const {
  const std::tm now = inputs.now ? parse_time(*inputs.now) : local_time();
  jinja::Interpreter interpreter(program_->body, now, jinja::Limits{});
  try {
    for (const auto& [variable, value] : inputs.variables) interpreter.set(variable, value);
    interpreter.set("messages", jinja::from_json(prepare_messages(inputs.messages)));
    interpreter.set("tools", jinja::from_json(inputs.tools));
    interpreter.set("documents", jinja::from_json(inputs.documents));
    interpreter.set("add_generation_prompt", inputs.add_generation_prompt);
    for (auto it = inputs.arguments.begin(); it != inputs.arguments.end(); ++it)
      interpreter.set(it.key(), jinja::from_json(it.value()));
    std::string text = interpreter.render();
    unknown_variables.assign(interpreter.unknown_names().begin(), interpreter.unknown_names().end());
    return text;
  } catch (const Error& error) {
    throw Error(fmt::format("{}: line {}: {}", program_->name, interpreter.line(), error.what()), error.hint());
  }
}

}  // namespace lathe
