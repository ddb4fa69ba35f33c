// configs/: every published size makes a model with the number of parameters that it is published with.
#include <filesystem>
#include <map>

#include "llm/registry.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;

TEST_CASE("every published size has its published number of parameters") {
  const std::map<std::string, int64_t> published = {
      {"gpt_neox/pythia-14m", 14067712},
      {"gpt_neox/pythia-31m", 30494720},
      {"gpt_neox/pythia-70m", 70426624},
      {"gpt_neox/pythia-160m", 162322944},
      {"gpt_neox/pythia-410m", 405334016},
      {"gpt_neox/pythia-1b", 1011781632},
      {"gpt_neox/pythia-1.4b", 1414647808},
      {"gpt_neox/pythia-2.8b", 2775208960},
      {"gpt_neox/pythia-6.9b", 6857302016},
      {"gpt_neox/pythia-12b", 11846072320},
      {"gpt_neox/20b", 20554567680},
      {"gpt_neox/redpajama-incite-3b", 2775864320},
      {"falcon/rw-1b", 1311625216},
      {"falcon/rw-7b", 7516020736},
      {"falcon/7b", 6921720704},
      {"falcon/40b", 41303293952},
      {"falcon/180b", 178557088768},
      {"falcon/2-11b", 11102822400},
      {"mpt/7b", 6649286656},
      {"mpt/7b-8k", 6649286656},
      {"mpt/7b-storywriter", 6649286656},
      {"mpt/30b", 29957200896},
      {"gemma3/270m", 268098176},
      {"gemma3/1b", 999885952},
      {"gemma3/4b", 3880263168},
      {"gemma3/12b", 11766034176},
      {"gemma3/27b", 27009346304},
      {"olmo2/1b", 1484916736},
      {"olmo2/7b", 7298617344},
      {"olmo2/13b", 13716198400},
      {"olmo2/32b", 32234279936},
      {"qwen/1.8b", 1836828672},
      {"qwen/7b", 7721324544},
      {"qwen/14b", 14167290880},
      {"qwen/72b", 72287920128},
  };
  size_t found = 0;
  for (const char* family : {"gpt_neox", "falcon", "mpt", "gemma3", "olmo2", "qwen"})
    for (const auto& entry : std::filesystem::directory_iterator(test::source_dir() / "configs" / family)) {
      const std::string name = family + ("/" + entry.path().stem().string());
      INFO(name);
      const ModelConfig config = read_config_yaml(entry.path().string());
      CHECK(family_of(config).name == family);
      REQUIRE(published.contains(name));
      CHECK(count_parameters(*family_of(config).make(config)) == published.at(name));
      ++found;
    }
  CHECK(found == published.size());
}
