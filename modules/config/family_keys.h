// What families' descriptions of their configurations are made of, where several say the same: tables of keys and
// functions for `read_together` and `write_together`.
#pragma once
#include <functional>

#include "config/family_config.h"

namespace lathe {

// The keys that every family has, those of rotary positions, and an activation's name.
std::vector<JsonKey> with_common(std::vector<JsonKey> keys);
std::vector<JsonKey> with_rope(std::vector<JsonKey> keys);
void set_activation(ModelConfig& config, const JsonValue& value);
// The keys of the families that are Llama but for options, and `more`; what their files leave out.
std::vector<JsonKey> with_llama(std::vector<JsonKey> more);
ModelConfig llama_defaults(int64_t max_position_embeddings, double norm_eps = 1e-6);
JsonKey attention_bias_key();  // on all four projections

// `key` of a file, tokens that a window spans; `fallback` where it is missing, 0 where it is null.
int64_t read_window(const ModelConfig& config, const nlohmann::json& root, const char* key, int64_t fallback);
// The layers that `has_window` names see `window` tokens, the others all; all of them where the window is 0.
void set_windows(ModelConfig& config, int64_t window, const std::function<bool(int64_t layer)>& has_window);

// The way back: `sliding_window`, null where no layer has one, and `layer_types`, left out where none has.
void write_window(const ModelConfig& config, nlohmann::ordered_json& root);
void write_layer_types(const ModelConfig& config, nlohmann::ordered_json& root);
int64_t largest_window(const ModelConfig& config);  // 0: none
// An integer where the value is one but for rounding: some numbers are integers in the reference's classes, which take
// no other.
nlohmann::ordered_json whole_number(double value);
// By `layer_types` of a file, which names each layer full_attention or sliding_attention: the latter see `window`
// tokens. False, and nothing is set, where the file has no such list.
bool read_layer_types(ModelConfig& config, const nlohmann::json& root, int64_t window);
// "query_pre_attn_scalar": attention's scores are divided by its root, in place of that of the head's width.
JsonKey query_scalar_key();
void write_query_scalar(const ModelConfig& config, nlohmann::ordered_json& root);
// A number of a GGUF file's metadata, where it is there. The format has 32-bit floats where config.json has decimal
// numbers: 1e-05 comes as 9.99999975e-06. The number that was meant is the shortest one that rounds to the float.
void read_decimal(const GgufFile& file, const std::string& key, double& field);

}  // namespace lathe
