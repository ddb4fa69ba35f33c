// The command line as the commands declare it. Only command_line.cpp knows the library behind it, whose header takes
// seconds to compile.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace lathe {

// Options of all commands that more is known of than their values: files that are written, and files of options.
struct MarkedOptions {
  std::vector<CLI::Option*> outputs, option_files;
};

// One option or flag of a command; a copy means the same one.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  const Option& required(bool value = true) const;
  const Option& description(const std::string& text) const;
  // The help names the value that the variable has now.
  const Option& shows_default() const;
  const Option& between(int64_t lowest, int64_t highest) const;
  const Option& positive() const;  // and at most 2^40
  const Option& one_of(const std::vector<std::string>& values) const;
  const Option& excludes(const Option& other) const;
  // Whether the command line names it; known when the command runs.
  bool given() const;

 private:
  CLI::Option* option_;
};

class Command {
 public:
  Command(CLI::App* command, MarkedOptions* marked) : command_(command), marked_(marked) {}

  // A command of this one, which then needs one: `lathe tokenizer train`.
  Command add(const std::string& name, const std::string& description) const;

  // `value` is set where the command line names the option. T is std::string, int, int64_t, uint64_t, double, an
  // optional of one of the last three or of a std::string, or a vector of std::string (the option may be repeated).
  template <class T>
  Option option(const std::string& name, T& value, const std::string& description) const;
  // A file or folder that the command writes: an Error where it is, under the same name or another one, a file that
  // another option names. What lies in a model's folder is checked when the model is open.
  Option output(const std::string& name, std::string& value, const std::string& description) const;
  // The same where the name may be left out: f is called with it, or with "".
  Option optional_output(const std::string& name, const std::string& value_name, const std::string& description,
                         const std::function<void(const std::string&)>& f) const;
  // "--stream,!--no-stream" sets `value` to true or false.
  Option flag(const std::string& name, bool& value, const std::string& description) const;

  // "--config F.yaml": a file with any of the command's options (config/option_file.h); those of the command line win.
  void option_file() const;

  Option find(const std::string& name) const;
  void remove(const std::string& name) const;
  void example(const std::string& text) const;
  void take_any_options() const;  // known or not
  void run(std::function<void()> f) const;

 private:
  CLI::App* command_;
  MarkedOptions* marked_;
};

class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  Command add(const std::string& name, const std::string& description);
  // Adds --plugin to every command; f is called with each file before the command runs.
  void add_plugin_option(std::function<void(const std::string&)> f);
  // Called when the command line is found right, before the command runs.
  void before_run(std::function<void()> f) { before_run_ = std::move(f); }
  // Runs the command that the arguments name, or prints the help or version that they ask for. Throws UsageError where
  // they are wrong, and what the command throws.
  void run(std::vector<std::string> arguments);

 private:
  std::vector<std::string> with_option_file(std::vector<std::string> arguments) const;
  void check_outputs() const;
  void check_names() const;

  std::unique_ptr<CLI::App> app_;
  MarkedOptions marked_;
  std::function<void()> before_run_ = [] {};
};

}  // namespace lathe
