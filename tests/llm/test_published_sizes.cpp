// configs/: every published size makes a model with the number of parameters that it is published with.
#include <filesystem>
#include <map>

#include "llm/registry.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;

TEST_CASE("every published size has its published number of parameters") {
  const std::map<std::string, int64_t> published = {
      {"gpt2/124m", 124439808},
      {"gpt2/355m", 354823168},
      {"gpt2/774m", 774030080},
      {"gpt2/1558m", 1557611200},
      {"llama/2-7b", 6738415616},
      {"llama/2-13b", 13015864320},
      {"llama/2-70b", 68976648192},
      {"llama/3-8b", 8030261248},
      {"llama/3-70b", 70553706496},
      {"llama/3.1-8b", 8030261248},
      {"llama/3.1-70b", 70553706496},
      {"llama/3.1-405b", 405853388800},
      {"llama/3.2-1b", 1235814400},
      {"llama/3.2-3b", 3212749824},
      {"llama/codellama-7b", 6738546688},
      {"llama/codellama-13b", 13016028160},
      {"llama/codellama-34b", 33743970304},
      {"llama/codellama-70b", 68976910336},
      {"llama/smollm2-135m", 134515008},
      {"llama/smollm2-360m", 361821120},
      {"llama/smollm2-1.7b", 1711376384},
      {"llama/tinyllama-1.1b", 1100048384},
      {"llama/stories260k", 260032},
      {"mistral/7b-v0.1", 7241732096},
      {"mistral/7b-v0.2", 7241732096},
      {"mistral/7b-v0.3", 7248023552},
      {"mistral/ministral-8b", 8019808256},
      {"mistral/nemo-12b", 12247782400},
      {"mistral/small-22b", 22247282688},
      {"mistral/small-24b", 23572403200},
      {"mistral/large-123b", 122610069504},
      {"mixtral/8x7b", 46702792704},
      {"mixtral/8x22b", 140620634112},
      {"qwen2/1.5-0.5b", 463987712},
      {"qwen2/1.5-1.8b", 1836828672},
      {"qwen2/1.5-4b", 3950369280},
      {"qwen2/1.5-7b", 7721324544},
      {"qwen2/1.5-14b", 14167290880},
      {"qwen2/1.5-32b", 32512218112},
      {"qwen2/1.5-72b", 72287920128},
      {"qwen2/1.5-110b", 111209914368},
      {"qwen2/2-0.5b", 494032768},
      {"qwen2/2-1.5b", 1543714304},
      {"qwen2/2-7b", 7615616512},
      {"qwen2/2-72b", 72706203648},
      {"qwen2/2.5-0.5b", 494032768},
      {"qwen2/2.5-1.5b", 1543714304},
      {"qwen2/2.5-3b", 3085938688},
      {"qwen2/2.5-7b", 7615616512},
      {"qwen2/2.5-14b", 14770033664},
      {"qwen2/2.5-32b", 32763876352},
      {"qwen2/2.5-72b", 72706203648},
      {"qwen3/0.6b", 596049920},
      {"qwen3/1.7b", 1720574976},
      {"qwen3/4b", 4022468096},
      {"qwen3/4b-2507", 4022468096},
      {"qwen3/8b", 8190735360},
      {"qwen3/14b", 14768307200},
      {"qwen3/32b", 32762123264},
      {"qwen3_moe/30b-a3b", 30532122624},
      {"qwen3_moe/30b-a3b-2507", 30532122624},
      {"qwen3_moe/235b-a22b", 235093634560},
      {"qwen3_moe/235b-a22b-2507", 235093634560},
      {"qwen3_moe/coder-480b-a35b", 480154875392},
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
      {"phi3/3-mini-4k", 3821079552},
      {"phi3/3-medium-4k", 13960238080},
      {"phi3/4-14b", 14659507200},
  };
  size_t found = 0;
  for (const auto& folder : std::filesystem::directory_iterator(test::source_dir() / "configs"))
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string family = folder.path().filename().string(), name = family + "/" + entry.path().stem().string();
      INFO(name);
      const ModelConfig config = read_config_yaml(entry.path().string());
      CHECK(family_of(config).name == family);
      CHECK(config.eos_token_ids.size() == 1);
      REQUIRE(published.contains(name));
      CHECK(count_parameters(*family_of(config).make(config)) == published.at(name));
      ++found;
    }
  CHECK(found == published.size());
}
