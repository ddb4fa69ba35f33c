// --profile as a user sees it, on a tiny checkpoint: the table adds up, the trace can be read, the results are the same
// bits; and the start line that explains the speed.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using lathe::test::CommandResult;
using lathe::test::run_lathe;
using nlohmann::json;

std::string golden(const char* name) { return (lathe::test::source_dir() / "tests" / "goldens" / name).string(); }

std::vector<std::string> generate(const char* model = "llama_untied_gqa") {
  return {"generate", "--model",  golden(model),  "--tokens", "3,4,5", "--max-new-tokens",
          "6",        "--greedy", "--ignore-eos", "--seed",   "1",     "--json"};
}

CommandResult run_with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  CommandResult result = run_lathe(arguments);
  INFO(result.standard_error);
  CHECK(result.exit_code == 0);
  return result;
}

json without_timing(const std::string& text) {
  json object = json::parse(text);
  object.erase("timing");
  return object;
}

// Milliseconds and name of each row of the table.
std::vector<std::pair<std::string, double>> table_rows(const std::string& text) {
  std::vector<std::pair<std::string, double>> rows;
  std::istringstream lines(text);
  bool within = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("phase ")) {
      within = true;
    } else if (within && !line.starts_with("lathe: ")) {
      rows.emplace_back(line.substr(9, line.find("  ", 10) - 9), std::stod(line.substr(57, 11)));
    } else {
      within = false;
    }
  }
  return rows;
}

}  // namespace

TEST_CASE("the table of --profile names the operations by phase and adds up to the time that passed") {
  const CommandResult result = run_with(generate(), {"--profile"});
  CHECK_THAT(result.standard_error, ContainsSubstring("decode   linear f32 ") &&
                                        ContainsSubstring("prefill  linear f32 ") &&
                                        ContainsSubstring("decode   attention, f32 cache") &&
                                        ContainsSubstring("sample") && ContainsSubstring("GB/s read"));
  const auto rows = table_rows(result.standard_error);
  REQUIRE(rows.size() > 8);
  CHECK(rows[rows.size() - 2].first == "between kernels");
  CHECK(rows.back().first == "total");
  double sum = 0;
  for (size_t i = 0; i + 1 < rows.size(); ++i) {
    CHECK(rows[i].second >= 0);
    sum += rows[i].second;
  }
  CHECK(std::abs(sum - rows.back().second) < 0.006 * static_cast<double>(rows.size()));  // two decimals each
}

TEST_CASE("profiling changes no result") {
  const std::string plain = run_with(generate(), {}).standard_output;
  CHECK(without_timing(run_with(generate(), {"--profile"}).standard_output) == without_timing(plain));
  const lathe::test::TemporaryDirectory folder;
  std::vector<std::string> outputs;
  for (const bool profiled : {false, true}) {
    const fs::path output = folder.path() / (profiled ? "a.npy" : "b.npy");
    run_with({"logits", "--model", golden("llama_untied_gqa"), "--tokens", "3,4,5", "--output", output.string()},
             profiled ? std::vector<std::string>{"--profile"} : std::vector<std::string>{});
    outputs.push_back(lathe::test::read_file(output));
  }
  CHECK(outputs[0] == outputs[1]);
}

TEST_CASE("the trace of --profile is JSON whose calls lie within their steps") {
  const lathe::test::TemporaryDirectory folder;
  const fs::path file = folder.path() / "trace.json";
  for (const char* model : {"llama_untied_gqa", "gpt2"}) {
    run_with(generate(model), {"--profile", file.string()});
    const json trace = json::parse(lathe::test::read_file(file));
    int decode_steps = 0, kernels = 0;
    double step_begin = 0, step_end = 0;
    std::vector<json> events = trace.at("traceEvents");
    std::stable_sort(events.begin(), events.end(), [](const json& a, const json& b) {
      return std::pair(a.at("ts").get<double>(), -a.at("dur").get<double>()) <
             std::pair(b.at("ts").get<double>(), -b.at("dur").get<double>());
    });
    for (const json& e : events) {
      CHECK(e.at("ph") == "X");
      CHECK(e.at("dur").get<double>() >= 0);
      const double begin = e.at("ts"), end = begin + e.at("dur").get<double>();
      if (e.at("cat") == "phase") {
        CHECK(begin >= step_end - 1e-6);
        step_begin = begin, step_end = end;
        decode_steps += e.at("name") == "decode";
      } else {
        CHECK(begin >= step_begin - 1e-6);
        CHECK(end <= step_end + 1e-6);
        ++kernels;
      }
    }
    CHECK(decode_steps == 5);  // the first token comes out of the prefill
    CHECK(kernels > 6 * 8);
  }
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);  // no temporary file is left
}

TEST_CASE("a trace that cannot be written is an error that names it") {
  const lathe::test::TemporaryDirectory folder;
  std::vector<std::string> arguments = generate();
  const std::string file = (folder.path() / "none" / "trace.json").string();
  arguments.insert(arguments.end(), {"--profile", file});
  const CommandResult result = run_lathe(arguments);
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.standard_error, ContainsSubstring("lathe: error: ") && ContainsSubstring(file));
}

TEST_CASE("the start line says what explains the speed") {
  const CommandResult result = run_with(generate(), {"--threads", "2"});
  const std::string line = result.standard_error.substr(0, result.standard_error.find('\n'));
  CHECK_THAT(line, ContainsSubstring("lathe: LlamaForCausalLM on 2 threads, ") && ContainsSubstring("--dtype auto") &&
                       ContainsSubstring("weights f32 ") && ContainsSubstring(" GB/s, which allows ") &&
                       ContainsSubstring(" tokens/s"));
  CHECK(json::parse(result.standard_output).is_object());
  // Where nothing is computed there is nothing to explain.
  const CommandResult quiet = run_with({"inspect", "--model", golden("llama_untied_gqa"), "--json"}, {});
  CHECK(quiet.standard_error.empty());
}
