// For every family, what is wrong in a file is refused with the field and its value: the sizes of heads, grouped
// queries, the vocabulary and the rotation, in the spelling of the family's config.json and in YAML.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "llm/family.h"
#include "llm/registry.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// Sets what `pointer` names in config.json to `value`; null: as good as absent.
struct Change {
  const char* pointer;
  json value;
};
struct Broken {
  std::vector<Change> changes;
  const char* message;
};
struct FamilyCases {
  const char* golden;  // whose config.json is broken
  std::vector<Broken> cases;
};

// A line that begins with `key:` gets another value; a line for it is added where there is none.
std::string with_line(const std::string& yaml, const std::string& key, const std::string& value) {
  const std::string line = key + ": " + value + "\n";
  const size_t at = ("\n" + yaml).find("\n" + key + ":");
  if (at == std::string::npos) return yaml + line;
  return yaml.substr(0, at) + line + yaml.substr(yaml.find('\n', at) + 1);
}

}  // namespace

TEST_CASE("config.json: a table of broken files for every family") {
  const char *heads = "hidden_size 32 is no multiple of num_attention_heads 5, and no head_dim is named",
             *groups = "num_attention_heads 4 is no multiple of num_key_value_heads 3",
             *theta = "rope_theta is 0, expected above 0";
  const Broken no_vocabulary = {{{"/vocab_size", nullptr}}, "the key vocab_size is missing"},
               empty_vocabulary = {{{"/vocab_size", 0}}, "vocab_size is 0, expected 1 to"},
               negative_vocabulary = {{{"/vocab_size", -61}}, "vocab_size is -61"},
               huge_vocabulary = {{{"/vocab_size", int64_t{1} << 40}}, "vocab_size is 1099511627776"},
               broken_heads = {{{"/num_attention_heads", 5}, {"/head_dim", nullptr}}, heads},
               no_heads = {{{"/num_attention_heads", 0}}, "num_attention_heads is 0, expected 1 to"},
               broken_groups = {{{"/num_key_value_heads", 3}}, groups},
               negative_groups = {{{"/num_key_value_heads", -2}}, "num_key_value_heads is -2"},
               odd_head = {{{"/head_dim", 7}}, "rotary_dim is 7, expected an even number from 0 to head_dim 7"},
               negative_head = {{{"/head_dim", -8}}, "head_dim is -8"}, broken_theta = {{{"/rope_theta", 0}}, theta},
               broken_new_theta = {{{"/rope_parameters/rope_theta", 0}}, theta},
               unknown_rope = {{{"/rope_parameters/rope_type", "spiral"}}, "rope_parameters.rope_type is 'spiral'"},
               no_factor = {{{"/rope_parameters/rope_type", "linear"}}, "the key rope_parameters.factor is missing"};
  const FamilyCases all[] = {
      {"llama_untied_gqa",
       {no_vocabulary, empty_vocabulary, negative_vocabulary, huge_vocabulary, broken_heads, no_heads, broken_groups,
        negative_groups, odd_head, negative_head, broken_theta}},
      {"gpt2",
       {no_vocabulary,
        empty_vocabulary,
        {{{"/n_head", 5}}, heads},
        {{{"/n_head", 0}}, "num_attention_heads is 0"},
        {{{"/n_embd", 0}}, "hidden_size is 0"},
        {{{"/n_positions", 0}}, "max_position_embeddings is 0"}}},
      {"mistral_window_head_dim",
       {no_vocabulary, empty_vocabulary, broken_heads, no_heads, broken_groups, odd_head, negative_head, broken_theta}},
      {"mixtral",
       {no_vocabulary, empty_vocabulary, broken_heads, no_heads, broken_groups, odd_head, negative_head, broken_theta}},
      {"qwen2_windowed_layers",
       {no_vocabulary, empty_vocabulary, broken_heads, no_heads, broken_groups, odd_head, broken_new_theta,
        unknown_rope, no_factor}},
      {"qwen3_untied",
       {no_vocabulary,
        empty_vocabulary,
        // A file that names no head_dim means 128.
        {{{"/num_attention_heads", 5}}, "num_attention_heads 5 is no multiple of num_key_value_heads 2"},
        no_heads,
        broken_groups,
        odd_head,
        broken_new_theta,
        unknown_rope,
        no_factor}},
      {"qwen3_moe_sparse_step",
       {no_vocabulary, empty_vocabulary, broken_heads, no_heads, broken_groups, odd_head, broken_new_theta,
        unknown_rope, no_factor}},
      {"gpt_neox",
       {no_vocabulary,
        empty_vocabulary,
        {{{"/num_attention_heads", 5}}, heads},
        no_heads,
        {{{"/rope_parameters/partial_rotary_factor", 0.4}}, "rotary_dim is 3, expected an even number"},
        {{{"/rope_parameters/partial_rotary_factor", 1.5}},
         "partial_rotary_factor is '1.5', expected a number above 0"},
        broken_new_theta,
        unknown_rope}},
      {"falcon_40b",
       {no_vocabulary,
        empty_vocabulary,
        {{{"/num_attention_heads", 5}}, heads},
        no_heads,
        {{{"/num_kv_heads", 3}}, groups},
        {{{"/hidden_size", 36}}, "rotary_dim is 9, expected an even number from 0 to head_dim 9"},
        broken_new_theta,
        unknown_rope,
        no_factor}},
      {"mpt",
       {no_vocabulary,
        empty_vocabulary,
        {{{"/n_heads", 5}}, "hidden_size 36 is no multiple of num_attention_heads 5"},
        {{{"/n_heads", 0}}, "num_attention_heads is 0"},
        {{{"/max_seq_len", 0}}, "max_position_embeddings is 0"},
        {{{"/attn_config/alibi", false}}, "attn_config.alibi is 'false', expected true"}}},
      {"gemma3",
       {no_vocabulary,
        empty_vocabulary,
        no_heads,
        {{{"/num_key_value_heads", 3}}, "is no multiple of num_key_value_heads 3"},
        odd_head,
        negative_head,
        {{{"/rope_parameters/full_attention/rope_theta", 0}}, theta},
        {{{"/rope_parameters/sliding_attention/rope_theta", -1}}, "rope_local_theta is -1"},
        {{{"/rope_parameters/full_attention/factor", 0.5}}, "rope_factor is 0.5, expected at least 1"}}},
      {"olmo2",
       {no_vocabulary, empty_vocabulary, broken_heads, no_heads, broken_groups, odd_head, broken_new_theta,
        unknown_rope, no_factor}},
      {"phi3",
       {no_vocabulary,
        empty_vocabulary,
        broken_heads,
        no_heads,
        broken_groups,
        {{{"/rope_parameters/partial_rotary_factor", 0.4}}, "rotary_dim is 3, expected an even number"},
        broken_new_theta,
        unknown_rope,
        no_factor}},
      {"qwen",
       {no_vocabulary,
        empty_vocabulary,
        {{{"/num_attention_heads", 5}, {"/kv_channels", nullptr}}, heads},
        no_heads,
        {{{"/kv_channels", 7}}, "rotary_dim is 7, expected an even number"},
        {{{"/rotary_emb_base", 0}}, theta},
        {{{"/rotary_pct", 0}}, "rotary_pct is '0', expected a number above 0"}}},
  };
  for (const FamilyCases& family : all) {
    const json whole = json::parse(read_file(source_dir() / "tests/goldens" / family.golden / "config.json"));
    CHECK_NOTHROW(parse_config_json(whole.dump(), "config.json", family_configs()));
    for (const Broken& broken : family.cases) {
      json root = whole;
      for (const Change& change : broken.changes) root[json::json_pointer(change.pointer)] = change.value;
      INFO(family.golden << ": " << broken.message);
      CHECK_THROWS_WITH(parse_config_json(root.dump(), "config.json", family_configs()),
                        ContainsSubstring(broken.message) && ContainsSubstring("config.json"));
    }
  }
}

TEST_CASE("config.json: the class and the model type must be of one family") {
  const json llama = json::parse(read_file(source_dir() / "tests/goldens/llama_untied_gqa/config.json"));
  json root = llama;
  root["model_type"] = "gpt2";
  CHECK_THROWS_WITH(
      parse_config_json(root.dump(), "config.json", family_configs()),
      ContainsSubstring("config.json: architectures is 'LlamaForCausalLM', whose model_type is llama, but "
                        "model_type is 'gpt2'"));
  root.erase("model_type");
  CHECK(parse_config_json(root.dump(), "config.json", family_configs()).model_type == "llama");
  for (const Family& family : families())
    for (const std::string& type : family.model_types)
      CHECK(&find_family(family_configs(), "", type, "config.json") == &family);
}

TEST_CASE("YAML: a broken size of every family is named, a misspelt key gets the nearest one") {
  size_t count = 0;
  for (const auto& folder : fs::directory_iterator(source_dir() / "configs")) {
    const fs::path file = fs::directory_iterator(folder)->path();
    const std::string text = read_file(file);
    const ModelConfig config = read_config_yaml(file.string(), family_configs());
    const TemporaryDirectory place;
    const std::string path = (place.path() / "broken.yaml").string();
    const auto check_refused = [&](const char* key, const char* value, const std::string& message) {
      write_file(path, with_line(text, key, value));
      INFO(file << ": " << key << ": " << value);
      CHECK_THROWS_WITH(read_config_yaml(path, family_configs()),
                        ContainsSubstring(message) && ContainsSubstring("broken.yaml"));
    };
    check_refused("vocab_size", "0", "vocab_size is 0, expected 1 to");
    check_refused("vocab_size", "many", "vocab_size is 'many', expected an integer");
    check_refused("num_attention_heads", "0", "num_attention_heads is 0, expected 1 to");
    check_refused("num_key_value_heads", "1000003", "is no multiple of num_key_value_heads 1000003");
    check_refused("head_dim", "-8", "head_dim is -8, expected 1 to");
    if (config.uses_rope()) {
      check_refused("rotary_dim", "3", "rotary_dim is 3, expected an even number from 0 to head_dim");
      check_refused("rope_theta", "0", "rope_theta is 0, expected above 0");
      check_refused("rope_factor", "0.5", "rope_factor is 0.5, expected at least 1");
    }
    write_file(path, text + "num_atention_heads: 4\n");
    try {
      read_config_yaml(path, family_configs());
      FAIL("a misspelt key was read");
    } catch (const Error& e) {
      CHECK_THAT(e.what(), ContainsSubstring("the key 'num_atention_heads' is not known"));
      CHECK(e.hint() == "did you mean num_attention_heads?");
    }
    ++count;
  }
  CHECK(count == families().size());
}
