#include "cli/command_line.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <type_traits>
#include <utility>

#include "config/nearest_name.h"
#include "config/option_file.h"
#include "formats/atomic_file.h"
#include "tensor/errors.h"

namespace lathe {

const Option& Option::required(bool value) const {
  option_->required(value);
  return *this;
}

const Option& Option::description(const std::string& text) const {
  option_->description(text);
  return *this;
}

const Option& Option::shows_default() const {
  option_->capture_default_str();
  return *this;
}

const Option& Option::between(int64_t lowest, int64_t highest) const {
  option_->check(CLI::Range(lowest, highest));
  return *this;
}

const Option& Option::positive() const { return between(1, int64_t{1} << 40); }

const Option& Option::one_of(const std::vector<std::string>& values) const {
  option_->check(CLI::IsMember(values));
  return *this;
}

const Option& Option::excludes(const Option& other) const {
  option_->excludes(other.option_);
  return *this;
}

bool Option::given() const { return option_->count() > 0; }

namespace {

template <class T>
struct ValueOf {
  using Type = T;
};
template <class T>
struct ValueOf<std::optional<T>> {
  using Type = T;
};

const std::string kOptionFile = "--config";

// The command of a command that the command line names; null where there is none.
const CLI::App* command_of(const CLI::App& command) {
  const auto named = command.get_subcommands();
  return named.empty() ? nullptr : named.front();
}

// CLI11 takes the nearest number that the type holds, and nothing for 0. Empty where `text` is an integer of type T.
template <class T>
std::string not_an_integer(const std::string& text) {
  T value{};
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && rest == text.data() + text.size()) return {};
  return fmt::format("expected an integer from {} to {}, found \"{}\"", std::numeric_limits<T>::min(),
                     std::numeric_limits<T>::max(), text);
}

}  // namespace

Command Command::add(const std::string& name, const std::string& description) const {
  command_->require_subcommand(1);
  return {command_->add_subcommand(name, description), marked_};
}

template <class T>
Option Command::option(const std::string& name, T& value, const std::string& description) const {
  CLI::Option* option = command_->add_option(name, value, description);
  using Value = typename ValueOf<T>::Type;
  if constexpr (std::is_integral_v<Value>) option->check(CLI::Validator(not_an_integer<Value>, ""));
  return Option(option);
}

template Option Command::option(const std::string&, std::string&, const std::string&) const;
template Option Command::option(const std::string&, int&, const std::string&) const;
template Option Command::option(const std::string&, int64_t&, const std::string&) const;
template Option Command::option(const std::string&, uint64_t&, const std::string&) const;
template Option Command::option(const std::string&, double&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<int64_t>&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<uint64_t>&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<double>&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<std::string>&, const std::string&) const;
template Option Command::option(const std::string&, std::vector<std::string>&, const std::string&) const;

Option Command::output(const std::string& name, std::string& value, const std::string& description) const {
  marked_->outputs.push_back(command_->add_option(name, value, description));
  return Option(marked_->outputs.back());
}

Option Command::optional_output(const std::string& name, const std::string& value_name, const std::string& description,
                                const std::function<void(const std::string&)>& f) const {
  marked_->outputs.push_back(command_->add_option_function<std::string>(name, f, description));
  return Option(marked_->outputs.back()->expected(0, 1)->type_name(value_name));
}

Option Command::flag(const std::string& name, bool& value, const std::string& description) const {
  return Option(command_->add_flag(name, value, description));
}

void Command::option_file() const {
  static std::string path;  // with_option_file reads it before the command line is parsed
  marked_->option_files.push_back(
      command_->add_option(kOptionFile, path, "a YAML file with any of these options; those given here win")
          ->type_name("F.yaml"));
}

Option Command::find(const std::string& name) const { return Option(command_->get_option(name)); }

void Command::remove(const std::string& name) const {
  CLI::Option* option = command_->get_option(name);
  std::erase(marked_->outputs, option);
  command_->remove_option(option);
}

void Command::example(const std::string& text) const { command_->footer(text); }
void Command::take_any_options() const { command_->allow_extras(); }

void Command::run(std::function<void()> f) const { command_->callback(std::move(f)); }

CommandLine::CommandLine()
    : app_(std::make_unique<CLI::App>(
          "Lathe: define a language model once; train it, run it, hold it against its reference.", "lathe")) {
  app_->require_subcommand(1);
  app_->set_version_flag("--version", "lathe " LATHE_VERSION, "the version of the program");
  app_->parse_complete_callback([this] {
    check_outputs();
    before_run_();
  });
  app_->footer("lathe help COMMAND shows a command's options, their defaults and an example.");
}

CommandLine::~CommandLine() = default;

Command CommandLine::add(const std::string& name, const std::string& description) {
  return {app_->add_subcommand(name, description), &marked_};
}

void CommandLine::add_plugin_option(std::function<void(const std::string&)> f) {
  const auto load = [f](const std::vector<std::string>& files) { std::for_each(files.begin(), files.end(), f); };
  for (CLI::App* command : app_->get_subcommands(nullptr))
    command->add_option_function<std::vector<std::string>>("--plugin", load, "a shared library with families of models")
        ->allow_extra_args(false)
        ->type_name("F.so");
}

// The arguments, and behind them what the command's option file says of options that they do not name.
std::vector<std::string> CommandLine::with_option_file(std::vector<std::string> arguments) const {
  if (arguments.empty()) return arguments;
  const auto commands = app_->get_subcommands([&](const CLI::App* c) { return c->get_name() == arguments[0]; });
  const CLI::App* command = commands.empty() ? nullptr : commands.front();
  const CLI::Option* file = command ? command->get_option_no_throw(kOptionFile) : nullptr;
  const auto& files = marked_.option_files;
  if (std::find(files.begin(), files.end(), file) == files.end()) return arguments;
  std::set<std::string> given;
  std::string path;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const size_t equals = std::min(arguments[i].find('='), arguments[i].size());
    const std::string name = *given.insert(arguments[i].substr(0, equals)).first;
    if (name != kOptionFile) continue;
    if (equals < arguments[i].size())
      path = arguments[i].substr(equals + 1);
    else if (i + 1 < arguments.size())
      path = arguments[i + 1];
  }
  if (path.empty()) return arguments;
  std::vector<std::string> known;
  for (const CLI::Option* option : command->get_options())
    for (const std::string& name : option->get_lnames())
      if (option != file && name != "help") known.push_back(name);
  for (const auto& [name, value] : read_option_file(path, known))
    if (!given.contains("--" + name)) arguments.push_back("--" + name + "=" + value);
  return arguments;
}

void CommandLine::check_outputs() const {
  std::map<std::filesystem::path, std::string> written;  // and by which option
  for (const CLI::Option* output : marked_.outputs) {
    const std::string file = output->results().empty() ? "" : output->results().front();
    if (file.empty()) continue;
    const auto [same, added] = written.emplace(std::filesystem::weakly_canonical(file), output->get_name());
    if (!added) throw UsageError(fmt::format("{} and {} name one file, {}", same->second, output->get_name(), file));
    std::vector<std::string> others;
    for (const CLI::App* command = app_.get(); command; command = command_of(*command))
      for (const CLI::Option* option : command->get_options())
        if (option != output) others.insert(others.end(), option->results().begin(), option->results().end());
    check_not_input(file, others);
  }
}

// Throws UsageError for the first option or command that is not known: CLI11 says of a misspelt one that the right one
// is missing, or that it and all that follows were not expected.
void CommandLine::check_names() const {
  const CLI::App* command = app_.get();
  while (const CLI::App* inner = command_of(*command)) command = inner;
  if (command->get_allow_extras()) return;
  const auto refuse = [](const char* what, const std::string& name, const std::vector<std::string>& known) {
    const auto nearest = nearest_name(name, known);
    throw UsageError(fmt::format("the {} {} is not known", what, name),
                     nearest ? fmt::format("did you mean {}?", *nearest)
                             : "lathe help lists the commands, lathe help COMMAND its options");
  };
  std::vector<std::string> commands, options;
  for (const CLI::App* inner : command->get_subcommands(nullptr)) commands.push_back(inner->get_name());
  for (const CLI::Option* option : command->get_options())
    for (const std::string& name : option->get_lnames()) options.push_back("--" + name);
  for (const std::string& word : command->remaining()) {
    const std::string name = word.substr(0, word.find('='));
    if (name.starts_with("--") && name != "--") refuse("option", name, options);
    if (!word.starts_with("-") && !commands.empty()) refuse("command", word, commands);
  }
}

void CommandLine::run(std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments[0] == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  arguments = with_option_file(std::move(arguments));
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app_->parse(arguments);
  } catch (const CLI::Success& e) {  // --help, --version
    app_->exit(e);
  } catch (const CLI::ParseError& e) {
    check_names();
    throw UsageError(e.what(), "lathe help lists the commands, lathe help COMMAND its options");
  }
}

}  // namespace lathe
