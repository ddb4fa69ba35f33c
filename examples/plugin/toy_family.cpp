// A family in one file, as a plugin: Llama with attention and feed-forward net side by side, each behind a norm of its
// own (as GPT-NeoX has them), x + attention(norm(x)) + feed_forward(norm'(x)). Every layer but the last has a window
// where config.json names one, and embeddings are multiplied by a number.
//
//   cmake -S examples/plugin -B build-plugin -DCMAKE_PREFIX_PATH=PREFIX && cmake --build build-plugin
//   lathe models --plugin build-plugin/toy_family.so
#include <nlohmann/json.hpp>

#include "block/parallel_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/config_export.h"
#include "config/family_keys.h"
#include "llm/decoder.h"
#include "llm/gguf_names.h"
#include "llm/plugin.h"

namespace {

using namespace lathe;

using Toy = Decoder<ParallelBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>;

// Hugging Face names are the model's own.
WeightMapping toy_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) {
    WeightMapping m;
    m.base_prefix = "model.";
    return m;
  }
  WeightMapping m = gguf_mapping();
  rename_in_layers(m, "attn_norm", "input_layernorm");
  return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
}

Family toy_family() {
  Family f;
  f.name = "toy";
  f.architectures = {"ToyForCausalLM"};
  f.model_types = {"toy"};
  f.variants = {"Toy"};
  f.capabilities = {"completion"};
  f.defaults = llama_defaults(2048);
  f.json_keys = with_llama({{"sliding_window", ReadElsewhere{}}, {"embedding_scale", &ModelConfig::embedding_scale}});
  // What several keys decide together, here the number of layers and the window, and the way back, for exports.
  f.read_together = [](ModelConfig& c, const nlohmann::json& root) {
    set_windows(c, read_window(c, root, "sliding_window", 0),
                [last = c.num_hidden_layers - 1](int64_t layer) { return layer != last; });
  };
  f.write_together = write_window;
  // What only this family's GGUF files say; windows are said of all families.
  f.read_gguf = [](ModelConfig& c, const GgufFile& file) {
    c.embedding_scale = file.get<double>("toy.embedding_scale").value_or(1.0);
  };
  f.write_gguf = [](const ModelConfig& c, GgufKeys& keys) { keys.set("embedding_scale", c.embedding_scale); };
  f.make = make_model<Toy>;
  f.weight_mapping = toy_weight_mapping;
  return f;
}

void register_toy() { register_family(toy_family()); }

}  // namespace

LATHE_PLUGIN(register_toy)
