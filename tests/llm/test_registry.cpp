// The registry and what lies beside it agree: names of classes and types, capabilities, published names and sizes.
#include <algorithm>
#include <filesystem>
#include <set>

#include "llm/family.h"
#include "llm/registry.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

TEST_CASE("registry: a name of a class or a type is one family's") {
  std::set<std::string> names;
  for (const Family& family : families()) {
    CHECK_FALSE(family.variants.empty());
    CHECK(holds(family.capabilities, "completion"));
    for (const std::string& capability : family.capabilities)
      CHECK((capability == "completion" || capability == "chat" || capability == "embeddings"));
    for (const std::string& name : family.architectures) CHECK(names.insert(name).second);
    for (const std::string& name : family.model_types) CHECK(names.insert(name).second);
  }
}

TEST_CASE("registry: every rule of a weight mapping fills a parameter of some model") {
  for (const Family& family : families()) {
    INFO(family.name);
    CHECK(dead_targets(family) == std::vector<std::string>{});
  }
  ModelConfig llama;
  llama.architecture = "LlamaForCausalLM";
  Family slip = family_of(llama);
  slip.name = "slip";
  slip.architectures = {"SlipForCausalLM"};
  slip.model_types = {"slip"};
  slip.weight_mapping = [](const ModelConfig&, CheckpointFormat) {
    WeightMapping m;
    m.rename("model.layers.{}.attention.k.weight", "model.layers.{}.self_attn.key_proj.weight");
    return m.rename("model.layers.{}.attention.q.weight", "model.layers.{}.self_attn.q_proj.weight");
  };
  const size_t before = families().size();
  CHECK_THROWS_WITH(register_family(slip), ContainsSubstring("'slip'") &&
                                               ContainsSubstring("fills model.layers.{}.self_attn.key_proj.weight,"));
  CHECK(families().size() == before);
}

TEST_CASE("published names: each is one repository of a registered family, for a thing that the family can do") {
  std::set<std::string> names;
  const auto find = [](const std::string& family, const std::string& size_and_variant) {
    return find_repository(family_configs(), family, size_and_variant);
  };
  for (const Family& family : families())
    for (const PublishedModels& models : family.published) {
      INFO(models.name);
      for (const PublishedName& named : names_of(models)) {
        CHECK(names.insert(named.name).second);
        CHECK(named.repository.find('{') == std::string::npos);
        CHECK(std::count(named.repository.begin(), named.repository.end(), '/') == 1);
        CHECK(find(models.name, named.name.substr(models.name.size() + 1)) == named.repository);
      }
      for (const PublishedVariant& variant : models.variants) {
        if (variant.name == "chat" || variant.name == "instruct" || variant.name == "reasoning")
          CHECK(holds(family.capabilities, "chat"));
        if (variant.name == "embedding") CHECK(holds(family.capabilities, "embeddings"));
      }
    }
  CHECK(find("llama3.2", "1b") == "meta-llama/Llama-3.2-1B-Instruct");
  CHECK(find("Llama3.2", "1B-base") == "meta-llama/Llama-3.2-1B");
  CHECK(find("qwen3", "30b-a3b-reasoning") == "Qwen/Qwen3-30B-A3B-Thinking-2507");
  CHECK(find("mpt", "7b-8k-base") == "mosaicml/mpt-7b-8k");
  CHECK_FALSE(find("yoda", "1b"));
  CHECK_THROWS_WITH(find("llama3.2", "2b"),
                    ContainsSubstring("'llama3.2:2b' is no published model, expected one of llama3.2:1b-instruct"));
  CHECK_THROWS_WITH(find("llama3.3", "70b-base"), ContainsSubstring("expected one of llama3.3:70b-instruct"));
}
