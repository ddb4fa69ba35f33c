// A family in one file, as a plugin: Llama with attention and feed-forward net side by side, each behind a norm of its
// own (as GPT-NeoX has them), x + attention(norm(x)) + feed_forward(norm'(x)).
//
//   cmake -S examples/plugin -B build-plugin -DCMAKE_PREFIX_PATH=PREFIX && cmake --build build-plugin
//   lathe models --plugin build-plugin/toy_family.so
#include "block/parallel_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/family_tables.h"
#include "llm/decoder.h"
#include "llm/plugin.h"

namespace {

using namespace lathe;

std::unique_ptr<CausalLM> make_toy(const ModelConfig& config) {
  return std::make_unique<Decoder<ParallelBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>>(config);
}

// Hugging Face names are the model's own.
WeightMapping toy_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  check(format == CheckpointFormat::hugging_face, "toy", "there is no GGUF form of it");
  WeightMapping m;
  m.base_prefix = "model.";
  return m;
}

// config.json is spelled as Llama's.
ConfigFamily toy_config() { return {"toy", {"ToyForCausalLM"}, llama_defaults(2048), with_llama({})}; }

void register_toy() {
  register_family(
      {"toy", {"ToyForCausalLM"}, {"toy"}, {"Toy"}, {"completion"}, make_toy, toy_weight_mapping, toy_config});
}

}  // namespace

LATHE_PLUGIN(register_toy)
