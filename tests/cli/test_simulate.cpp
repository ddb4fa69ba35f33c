// lathe simulate: the figures of a trace, the file of steps, and lines that are no requests.
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

TEST_CASE("simulate tells what a trace would meet") {
  const TemporaryDirectory folder;
  const std::string trace = (folder.path() / "trace.jsonl").string(), steps = (folder.path() / "steps.csv").string();
  write_file(trace,
             "{\"timestamp\": 1000, \"input_length\": 600, \"output_length\": 2, \"hash_ids\": [4, 6]}\n"
             "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 3, \"hash_ids\": [4, 5]}\n");
  const CommandResult result = run_lathe({"simulate", "--trace", trace, "--json", "--steps", steps});
  REQUIRE(result.exit_code == 0);
  const json figures = json::parse(result.standard_output);
  CHECK(figures["requests"] == 2);
  CHECK(figures["cached_tokens"] == 512);
  CHECK(figures["computed_tokens"] == 600 + 2 + 88 + 1);
  // 512 tokens and 88 at 2,000 a second; then 88 alone, which the weights' time hides not either.
  CHECK(figures["seconds_to_first_token"]["max"].get<double>() == Catch::Approx(0.256 + 0.044));
  CHECK(figures["seconds_to_first_token"]["median"].get<double>() >= 0.044);
  CHECK_THAT(read_file(steps), ContainsSubstring("begin,seconds,sequences,new_tokens,waiting,used_pages,cached_pages\n"
                                                 "0.000000,0.256000,1,512,0,32,0\n"));
}

TEST_CASE("simulate names what is wrong with a trace") {
  const TemporaryDirectory folder;
  const std::string trace = (folder.path() / "trace.jsonl").string();
  const auto error_of = [&](const std::string& text, const std::vector<std::string>& more = {}) {
    write_file(trace, text);
    std::vector<std::string> arguments = {"simulate", "--trace", trace};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = run_lathe(arguments);
    CHECK(result.exit_code != 0);
    return result.standard_error;
  };
  const std::string good = "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 1}\n";
  CHECK_THAT(error_of(good + "{\"timestamp\": 0, \"input_length\": 5}"),
             ContainsSubstring("line 2: 'output_length' is"));
  CHECK_THAT(error_of("{\"timestamp\": -1, \"input_length\": 5, \"output_length\": 1}"),
             ContainsSubstring("timestamp"));
  CHECK_THAT(error_of("{\"timestamp\": 0, \"input_length\": 0, \"output_length\": 1}"), ContainsSubstring("from 1"));
  CHECK_THAT(error_of("{\"arrival\": 0}"), ContainsSubstring("'arrival' is not known"));
  CHECK_THAT(error_of("[]"), ContainsSubstring("expected an object"));
  CHECK_THAT(error_of(""), ContainsSubstring("holds no request"));
  CHECK_THAT(error_of(good, {"--max-batch-tokens", "8"}), ContainsSubstring("--max-sequences 64"));
  CHECK_THAT(error_of(good, {"--step-seconds", "0"}), ContainsSubstring("more than 0"));
}
