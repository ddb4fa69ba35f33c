// The program `lathe`: parses the command line, runs one subcommand, turns exceptions into one-line errors.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <thread>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/standard_streams.h"
#include "llm/plugin.h"
#include "tensor/communicator.h"
#include "tensor/errors.h"

namespace {

constexpr int kFailed = 1, kUsage = 2;

// Keeps a message that quotes the outside world on one line.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

void print_error(const std::string& message, const std::string& hint) {
  if (lathe::reader_has_gone()) return;
  std::string place = lathe::place_in_world();
  // What fails on all ranks is said by the first, which ends the others meanwhile: Open MPI takes a second.
  if (!place.empty() && !place.starts_with("rank 0 ")) std::this_thread::sleep_for(std::chrono::seconds(5));
  if (!place.empty()) place += ": ";
  fmt::print(lathe::error_stream(), "lathe: error: {}{}\n", place, one_line(message));
  if (!hint.empty()) fmt::print(lathe::error_stream(), "  hint: {}\n", one_line(hint));
}

void declare(lathe::CommandLine& app) {
  lathe::add_generate(app);
  lathe::add_chat(app);
  lathe::add_serve(app);
  lathe::add_logits(app);
  lathe::add_trace(app);
  lathe::add_tokenize(app);
  lathe::add_detokenize(app);
  lathe::add_tokenizer(app);
  lathe::add_render_chat(app);
  lathe::add_perplexity(app);
  lathe::add_evaluate(app);
  lathe::add_inspect(app);
  lathe::add_plan(app);
  lathe::add_plot(app);
  lathe::add_simulate(app);
  lathe::add_convert(app);
  lathe::add_bench(app);
  lathe::add_models(app);
  lathe::add_train(app);
  // Families that plugins bring are there before any command runs.
  app.before_run([] {
    if (const char* list = std::getenv("LATHE_PLUGINS")) lathe::load_plugins(list);
  });
  app.add_plugin_option([](const std::string& file) { lathe::load_plugin(file); });
}

int run(int argc, char** argv) {
  try {
    lathe::CommandLine app;
    declare(app);
    app.run({argv + 1, argv + argc});
    return 0;
  } catch (const lathe::UsageError& e) {
    print_error(e.what(), e.hint());
    return kUsage;
  } catch (const lathe::Error& e) {
    print_error(e.what(), e.hint());
  } catch (const std::bad_alloc&) {
    print_error("out of memory", "a smaller --context or --kv-memory needs less");
  } catch (const std::exception& e) {
    print_error(std::ferror(stdout) ? std::string("standard output: ") + e.what() : e.what(), "");
  }
  return kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  lathe::guard_standard_streams();
  const int code = lathe::finish_output(run(argc, argv));
  if (code != 0) lathe::abort_world(code);
  return code;
}
