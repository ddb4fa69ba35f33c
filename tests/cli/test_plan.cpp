// lathe plan: figures that can be worked out by hand, the answer to --memory, and wrong usage. That the memory is what
// runs take is measured by scripts/check_plan.py.
#include <nlohmann/json.hpp>

#include "tensor/stream.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace {

using Catch::Matchers::ContainsSubstring;
using lathe::test::CommandResult;
using lathe::test::run_lathe;
using nlohmann::json;

std::string config(const char* path) { return (lathe::test::source_dir() / "configs" / path).string(); }

CommandResult plan(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "plan");
  return run_lathe(arguments);
}

json plan_json(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const CommandResult result = plan(arguments);
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  CHECK(result.standard_error.empty());
  return json::parse(result.standard_output);
}

}  // namespace

TEST_CASE("the plan of SmolLM2 135M is what its sizes say") {
  const json p = plan_json({"--config", config("llama/smollm2-135m.yaml"), "--context", "1024", "--batch", "2"});
  CHECK(p["parameters"] == 134515008);
  CHECK(p["per_token"]["cache_bytes"] == 2 * 30 * 3 * 64 * 2);
  // q and o: 2 x 576 x 576; k and v: 2 x 192 x 576; gate, up, down: 3 x 1536 x 576.
  CHECK(p["per_token"]["linear_operations"] == 2 * 30 * 576 * (2 * 576 + 2 * 192 + 3 * 1536));
  CHECK(p["per_token"]["head_operations"] == 2 * 49152 * 576);
  CHECK(p["per_token"]["attention_operations"] == int64_t{4} * 30 * 9 * 64 * 1025);
  const json& memory = p["memory_bytes"];
  // Two bytes a parameter; blocks of memory are rounded to pages.
  CHECK(memory["weights"].get<double>() == Catch::Approx(2.0 * 134515008).epsilon(0.05));
  CHECK(memory["cache"].get<double>() == Catch::Approx(2.0 * 1024 * 23040).epsilon(0.05));
  const auto sum = memory["weights"].get<int64_t>() + memory["tables"].get<int64_t>() + memory["cache"].get<int64_t>() +
                   memory["activations"].get<int64_t>() + memory["runtime"].get<int64_t>();
  CHECK(memory["total"] == std::max(sum, memory["loading_peak"].get<int64_t>()));
  CHECK(p["expected"]["decode_tokens_per_second"] >= p["expected"]["decode_tokens_per_second_at_context"]);
}

TEST_CASE("quantised weights and caches take what their blocks take") {
  const std::vector<std::string> base = {"--config", config("llama/smollm2-135m.yaml"), "--context", "512"};
  auto quantised = base, wide_cache = base;
  quantised.insert(quantised.end(), {"--quantize", "q4_0"});
  wide_cache.insert(wide_cache.end(), {"--kv-cache-dtype", "float32"});
  const json plain = plan_json(base), q4 = plan_json(quantised), f32 = plan_json(wide_cache);
  const auto bytes = [](const json& p) { return p["per_token"]["decode_weight_bytes"].get<double>(); };
  CHECK(bytes(q4) / bytes(plain) == Catch::Approx(18.0 / 64.0).epsilon(0.01));
  CHECK(f32["per_token"]["cache_bytes"] == 2 * plain["per_token"]["cache_bytes"].get<int64_t>());
}

TEST_CASE("--memory says whether it fits, and what it proposes does fit") {
  const std::vector<std::string> base = {"--config", config("llama/3.2-1b.yaml"), "--context", "16384"};
  auto roomy = base, tight = base;
  roomy.insert(roomy.end(), {"--memory", "16GiB"});
  CHECK(plan_json(roomy)["limit"]["fits"] == true);
  tight.insert(tight.end(), {"--memory", "2800MiB"});
  const json limit = plan_json(tight)["limit"];
  CHECK(limit["fits"] == false);
  REQUIRE_FALSE(limit["would_fit"].empty());
  for (const json& option : limit["would_fit"]) {
    const auto text = option.get<std::string>();
    const size_t space = text.find(' ');
    auto again = tight;
    again.insert(again.end(), {text.substr(0, space), text.substr(space + 1)});
    if (text.starts_with("--context")) again.erase(again.begin() + 2, again.begin() + 4);
    INFO(text);
    CHECK(plan_json(again)["limit"]["fits"] == true);
  }
}

TEST_CASE("a plan of a checkpoint reads no weights and shows its equations") {
  for (const char* name : {"llama_untied_gqa", "gpt2"}) {
    const CommandResult result =
        plan({"--model", (lathe::test::source_dir() / "tests" / "goldens" / name).string(), "--memory", "1GiB"});
    INFO(result.standard_error);
    CHECK(result.exit_code == 0);
    CHECK_THAT(result.standard_output,
               ContainsSubstring("2 L Hk D x bytes") && ContainsSubstring("decode") && ContainsSubstring("fits in"));
  }
}

TEST_CASE("every published size can be planned for") {
  for (const char* name : {"llama/3.1-405b.yaml", "llama/2-70b.yaml", "gpt2/1558m.yaml"}) {
    const json p = plan_json({"--config", config(name), "--quantize", "q4_0", "--context", "1024"});
    CHECK(p["memory_bytes"]["weights"].get<double>() ==
          Catch::Approx(18.0 / 32.0 * p["parameters"].get<double>()).epsilon(0.1));
  }
}

TEST_CASE("wrong usage of plan") {
  CHECK(plan({}).exit_code == 2);
  CHECK(plan({"--config", config("gpt2/124m.yaml"), "--model", "x"}).exit_code == 2);
  CHECK(plan({"--config", config("gpt2/124m.yaml"), "--memory", "much"}).exit_code == 2);
  CHECK(plan({"--config", config("gpt2/none.yaml")}).exit_code == 1);
  const CommandResult result = plan({"--config", config("gpt2/124m.yaml"), "--context", "5000"});
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.standard_error, ContainsSubstring("learned positions"));
  const CommandResult device = plan({"--config", config("gpt2/124m.yaml"), "--device", "cuda"});
  if (Stream::built_in()) {
    CHECK(device.exit_code == 0);
    CHECK_THAT(device.standard_output, ContainsSubstring("on cuda:0"));
  } else {
    CHECK(device.exit_code == 1);
    CHECK_THAT(device.standard_error, ContainsSubstring("built without CUDA"));
  }
}
