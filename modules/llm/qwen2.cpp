// Qwen1.5, Qwen2 and Qwen2.5: Yang et al. 2024, section 2.2.
//
// Llama's arithmetic with biases on q, k and v. Unusual: a window in some layers (layer_window), the last ones where
// the file does not list them; GGUF keeps the half-split pairs of q and k where it makes neighbours of Llama's.
// Defaults are those of transformers' configuration_qwen2.py.
#include <nlohmann/json.hpp>

#include "config/family_keys.h"
#include "llm/families.h"

namespace lathe {

std::vector<JsonKey> with_qwen2(std::vector<JsonKey> more) {
  for (const char* name : {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"})
    more.push_back({name, ReadElsewhere{}});
  return with_llama(std::move(more));
}

int64_t read_qwen2_window(const ModelConfig& c, const nlohmann::json& root) {
  const auto used = root.find("use_sliding_window");
  const bool has = used != root.end() && !used->is_null();
  if (!has || !JsonValue(*used, c.source, "use_sliding_window").boolean()) return 0;
  return read_window(c, root, "sliding_window", 4096);
}

// The layers that `layer_types` names have it, or those from max_window_layers on.
void read_qwen2_windows(ModelConfig& c, const nlohmann::json& root) {
  const int64_t window = read_qwen2_window(c, root);
  const auto found = root.find("max_window_layers");
  const bool has = found != root.end() && !found->is_null();
  const int64_t first = has ? JsonValue(*found, c.source, "max_window_layers").integer() : 28;
  if (!read_layer_types(c, root, window)) set_windows(c, window, [=](int64_t layer) { return layer >= first; });
}

void write_qwen2_windows(const ModelConfig& c, nlohmann::ordered_json& root) {
  root["use_sliding_window"] = largest_window(c) > 0;
  write_window(c, root);
  write_layer_types(c, root);
}

Family qwen2_family() {
  Family f;
  f.name = "qwen2";
  f.architectures = {"Qwen2ForCausalLM"};
  f.model_types = {"qwen2"};
  f.variants = {"Qwen1.5", "Qwen2", "Qwen2.5"};
  f.capabilities = {"completion", "chat"};
  f.published = {
      {"qwen1.5",
       {"0.5B", "1.8B", "4B", "7B", "14B", "32B", "72B", "110B"},
       {{"chat", "Qwen/Qwen1.5-{size}-Chat"}, {"base", "Qwen/Qwen1.5-{size}"}}},
      {"qwen2",
       {"0.5B", "1.5B", "7B", "72B"},
       {{"instruct", "Qwen/Qwen2-{size}-Instruct"}, {"base", "Qwen/Qwen2-{size}"}}},
      {"qwen2.5",
       {"0.5B", "1.5B", "3B", "7B", "14B", "32B", "72B"},
       {{"instruct", "Qwen/Qwen2.5-{size}-Instruct"}, {"base", "Qwen/Qwen2.5-{size}"}}},
      {"qwen2.5-coder",
       {"0.5B", "1.5B", "3B", "7B", "14B", "32B"},
       {{"instruct", "Qwen/Qwen2.5-Coder-{size}-Instruct"}, {"base", "Qwen/Qwen2.5-Coder-{size}"}}},
      {"qwq", {"32B"}, {{"reasoning", "Qwen/QwQ-{size}"}}},
      {"deepseek-r1", {"1.5B", "7B", "14B", "32B"}, {{"reasoning", "deepseek-ai/DeepSeek-R1-Distill-Qwen-{size}"}}}};
  f.defaults = llama_defaults(32768);
  f.defaults.num_key_value_heads = 32;
  f.defaults.attention_bias = true;  // on q, k and v always: the file does not say
  f.json_keys = with_qwen2({});
  f.read_together = read_qwen2_windows;
  f.write_together = write_qwen2_windows;
  f.make = make_llama;
  f.weight_mapping = qwen_weight_mapping;
  return f;
}

}  // namespace lathe
