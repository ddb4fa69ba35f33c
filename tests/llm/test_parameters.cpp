// What is known of each parameter besides its values: kind, part of the model, weight decay.
#include <map>

#include "llm/family.h"
#include "llm/load.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;

namespace {

using Kind = Parameter::Kind;

LoadedModel open_golden(const std::string& name) {
  return open_model((test::source_dir() / "tests/goldens" / name).string());
}

// They lie in the model.
std::map<std::string, NamedParameter> by_name(const LoadedModel&&) = delete;
std::map<std::string, NamedParameter> by_name(const LoadedModel& opened) {
  std::map<std::string, NamedParameter> all;
  for (const NamedParameter& p : named_parameters(*opened.model)) all.emplace(p.name, p);
  return all;
}

void check_parameter(const NamedParameter& p, Kind kind, ModelPart part, bool decays) {
  INFO(p.name);
  CHECK(p.parameter->kind == kind);
  CHECK(p.part == part);
  CHECK(p.parameter->decays() == decays);
}

}  // namespace

TEST_CASE("parameters: packed projections are matrices of their own, table and head are none") {
  const LoadedModel opened = open_golden("llama_untied_gqa");
  const auto all = by_name(opened);
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
    check_parameter(all.at(fmt::format("model.layers.1.self_attn.{}.weight", name)), Kind::matrix, ModelPart::attention,
                    true);
  for (const char* name : {"gate_proj", "up_proj", "down_proj"})
    check_parameter(all.at(fmt::format("model.layers.1.mlp.{}.weight", name)), Kind::matrix, ModelPart::feed_forward,
                    true);
  check_parameter(all.at("model.embed_tokens.weight"), Kind::embedding, ModelPart::other, true);
  check_parameter(all.at("lm_head.weight"), Kind::head, ModelPart::other, true);
  check_parameter(all.at("model.norm.weight"), Kind::norm, ModelPart::other, false);
  CHECK(all.at("model.layers.0.self_attn.k_proj.weight").parameter->shape == Shape{16, 32});
}

TEST_CASE("parameters: positions and biases of GPT-2, router and experts of a mixture, norms within attention") {
  const LoadedModel opened_gpt2 = open_golden("gpt2");
  const auto gpt2 = by_name(opened_gpt2);
  check_parameter(gpt2.at("model.embed_positions.weight"), Kind::position, ModelPart::other, true);
  check_parameter(gpt2.at("model.layers.0.self_attn.q_proj.bias"), Kind::bias, ModelPart::attention, false);
  check_parameter(gpt2.at("model.layers.0.input_layernorm.bias"), Kind::bias, ModelPart::other, false);
  const LoadedModel opened = open_golden("mixtral");
  const auto mixtral = by_name(opened);
  check_parameter(mixtral.at("model.layers.0.mlp.gate.weight"), Kind::router, ModelPart::feed_forward, true);
  const NamedParameter& expert = mixtral.at("model.layers.0.mlp.experts.3.up_proj.weight");
  check_parameter(expert, Kind::matrix, ModelPart::feed_forward, true);
  CHECK(expert.parameter->share == 2.0 / 5.0);
  for (const char* golden : {"qwen3_untied", "olmo2"}) {
    const LoadedModel normed = open_golden(golden);
    check_parameter(by_name(normed).at("model.layers.0.self_attn.q_norm.weight"), Kind::norm, ModelPart::attention,
                    false);
  }
}

TEST_CASE("parameters: of every family, vectors alone do not decay, and every matrix has a part") {
  for (const auto& folder : std::filesystem::directory_iterator(test::source_dir() / "tests/goldens")) {
    if (!std::filesystem::exists(folder.path() / "config.json")) continue;
    const LoadedModel opened = open_golden(folder.path().filename().string());
    for (const NamedParameter& p : named_parameters(*opened.model)) {
      INFO(folder.path().filename().string() << ": " << p.name);
      CHECK(p.parameter->decays() == (p.parameter->shape.rank() == 2));
      if (p.parameter->kind == Kind::matrix) CHECK(p.part != ModelPart::other);
      CHECK((p.parameter->kind == Kind::head) == (p.name == "lm_head.weight"));
    }
  }
}
