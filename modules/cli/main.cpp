// The program `lathe`: parses the command line, runs one subcommand, turns exceptions into one-line errors.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <new>
#include <vector>

#include "cli/commands.h"
#include "llm/plugin.h"
#include "tensor/errors.h"

namespace {

constexpr int kFailed = 1, kUsage = 2;

// Keeps a message that quotes the outside world on one line.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

void print_error(const std::string& message, const std::string& hint) {
  fmt::print(stderr, "lathe: error: {}\n", one_line(message));
  if (!hint.empty()) fmt::print(stderr, "  hint: {}\n", one_line(hint));
}

void declare(CLI::App& app) {
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error&) { return std::string(); });
  app.footer("lathe help COMMAND shows a command's options, their defaults and an example.");
  lathe::add_generate(app);
  lathe::add_chat(app);
  lathe::add_logits(app);
  lathe::add_trace(app);
  lathe::add_tokenize(app);
  lathe::add_detokenize(app);
  lathe::add_render_chat(app);
  lathe::add_perplexity(app);
  lathe::add_evaluate(app);
  lathe::add_inspect(app);
  lathe::add_plan(app);
  lathe::add_convert(app);
  lathe::add_bench(app);
  lathe::add_models(app);
  // Families that plugins bring are there before any command runs.
  app.parse_complete_callback([] {
    if (const char* list = std::getenv("LATHE_PLUGINS")) lathe::load_plugins(list);
  });
  const auto load = [](const std::vector<std::string>& files) {
    for (const std::string& file : files) lathe::load_plugin(file);
  };
  for (CLI::App* command : app.get_subcommands(nullptr))
    command->add_option_function<std::vector<std::string>>("--plugin", load, "a shared library with families of models")
        ->allow_extra_args(false)
        ->type_name("F.so");
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && arguments[0] == "help") {
    arguments.erase(arguments.begin());
    arguments.push_back("--help");
  }
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  CLI::App app("Lathe: define a language model once; train it, run it, hold it against its reference.", "lathe");
  try {
    declare(app);
    app.parse(arguments);
    return 0;
  } catch (const CLI::Success& e) {  // --help
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    print_error(e.what(), "lathe help lists the commands, lathe help COMMAND its options");
    return kUsage;
  } catch (const lathe::UsageError& e) {
    print_error(e.what(), e.hint());
    return kUsage;
  } catch (const lathe::Error& e) {
    print_error(e.what(), e.hint());
  } catch (const std::bad_alloc&) {
    print_error("out of memory", "a smaller --context or --kv-memory needs less");
  } catch (const std::exception& e) {
    print_error(e.what(), "");
  }
  return kFailed;
}
