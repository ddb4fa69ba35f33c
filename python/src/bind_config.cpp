// lathe.Config: ModelConfig, read only. The names are the fields of modules/config/model_sizes.h and model_config.h.
#include <fmt/format.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "config/config_values.h"
#include "config/model_config.h"
#include "python/src/bindings.h"

namespace lathe::python {

void bind_config(nb::module_& m) {
  using C = ModelConfig;
  nb::class_<C> c(m, "Config", "The explicit description of a model, one field a fact (docs/shapes.md).");
  c.def_ro("architecture", &C::architecture, "class name of the checkpoint: \"LlamaForCausalLM\"")
      .def_ro("model_type", &C::model_type, "family name: \"llama\"")
      .def_ro("vocab_size", &C::vocab_size, "V, rows of the embedding table")
      .def_ro("hidden_size", &C::hidden_size, "C, width of the residual stream")
      .def_ro("intermediate_size", &C::intermediate_size, "F, width inside the feed-forward net")
      .def_ro("num_hidden_layers", &C::num_hidden_layers, "L, blocks")
      .def_ro("num_attention_heads", &C::num_attention_heads, "Hq, query heads")
      .def_ro("num_key_value_heads", &C::num_key_value_heads, "Hk, key and value heads")
      .def_ro("head_dim", &C::head_dim, "D, width of a head")
      .def_ro("max_position_embeddings", &C::max_position_embeddings, "longest context that the model was trained for")
      .def_ro("tie_word_embeddings", &C::tie_word_embeddings, "the output head is the embedding table")
      .def_ro("hidden_act", &C::hidden_act, "activation of the feed-forward net")
      .def_ro("norm_eps", &C::norm_eps, "added to the variance in normalisation")
      .def_ro("norm_offset", &C::norm_offset, "added to RMSNorm weights: 1 in Gemma")
      .def_ro("attention_bias", &C::attention_bias, "biases on the q, k and v projections")
      .def_ro("attention_output_bias", &C::attention_output_bias, "bias on the output projection")
      .def_ro("mlp_bias", &C::mlp_bias, "biases in the feed-forward net")
      .def_ro("qk_norm", &C::qk_norm, "RMSNorm over each head of q and k")
      .def_ro("layer_window", &C::layer_window, "keys a query sees in each layer, 0: all; empty: all layers 0")
      .def_ro("num_experts", &C::num_experts, "E, feed-forward nets that a router chooses from; 0: no router")
      .def_ro("num_experts_per_tok", &C::num_experts_per_tok, "k, nets that a token passes through")
      .def_ro("moe_intermediate_size", &C::moe_intermediate_size, "F of an expert")
      .def_ro("norm_topk_prob", &C::norm_topk_prob, "the chosen experts' probabilities are divided by their sum")
      .def_ro("router_aux_loss_coef", &C::router_aux_loss_coef, "weight of the routers' balancing loss in training")
      .def_ro("mlp_only_layers", &C::mlp_only_layers, "layers with one plain net in place of experts")
      .def_ro("use_parallel_residual", &C::use_parallel_residual, "attention and net read the same stream")
      .def_ro("shared_parallel_norm", &C::shared_parallel_norm, "through one norm, not one each")
      .def_ro("embedding_scale", &C::embedding_scale, "multiplies the token embeddings")
      .def_ro("residual_scale", &C::residual_scale, "multiplies what attention and net add to the stream")
      .def_ro("logit_divisor", &C::logit_divisor, "divides the logits")
      .def_ro("attention_scale", &C::attention_scale, "multiplies q k^T; 0: 1 / sqrt(D)")
      .def_ro("attention_softcap", &C::attention_softcap, "c tanh(score / c); 0: none")
      .def_ro("final_logit_softcap", &C::final_logit_softcap, "c tanh(logit / c); 0: none")
      .def_ro("qkv_clip", &C::qkv_clip, "q, k and v are clamped to [-clip, clip]; 0: none")
      .def_ro("use_logn_attention", &C::use_logn_attention,
              "queries behind the trained context grow with its logarithm")
      .def_ro("alibi", &C::alibi, "positions as a bias of the scores instead of rotation")
      .def_ro("alibi_bias_max", &C::alibi_bias_max, "the slopes are powers of 2^(-alibi_bias_max / Hq)")
      .def_ro("rope_theta", &C::rope_theta, "base of the rotary frequencies")
      .def_ro("rope_local_theta", &C::rope_local_theta, "base of the layers with a window; 0: as all")
      .def_ro("rotary_dim", &C::rotary_dim, "components of a head that are rotated; 0: no rotary positions")
      .def_prop_ro(
          "rope_scaling", [](const C& config) { return std::string(rope_scaling_name(config.rope_scaling)); },
          "how the frequencies are scaled: \"default\", \"linear\", \"yarn\" ...")
      .def_ro("rope_factor", &C::rope_factor, "scaling factor")
      .def_ro("rope_original_max_position", &C::rope_original_max_position, "context before scaling")
      .def_ro("rope_low_freq_factor", &C::rope_low_freq_factor, "llama3")
      .def_ro("rope_high_freq_factor", &C::rope_high_freq_factor, "llama3")
      .def_ro("rope_beta_fast", &C::rope_beta_fast, "yarn")
      .def_ro("rope_beta_slow", &C::rope_beta_slow, "yarn")
      .def_ro("rope_truncate", &C::rope_truncate, "yarn: the borders of the ramp are rounded")
      .def_ro("rope_attention_factor", &C::rope_attention_factor, "multiplies cos and sin; None: computed")
      .def_ro("rope_short_factor", &C::rope_short_factor, "longrope: divisors up to the original context")
      .def_ro("rope_long_factor", &C::rope_long_factor, "longrope: divisors beyond it")
      .def_ro("rope_mscale", &C::rope_mscale, "yarn")
      .def_ro("rope_mscale_all_dim", &C::rope_mscale_all_dim, "yarn")
      .def_ro("bos_token_id", &C::bos_token_id, "begins a text")
      .def_ro("eos_token_ids", &C::eos_token_ids, "any of them ends a generation")
      .def_ro("pad_token_id", &C::pad_token_id, "fills batches in training")
      .def_ro("dtype", &C::dtype, "of the stored weights")
      .def_ro("initializer_range", &C::initializer_range, "standard deviation of fresh weights")
      .def_ro("extra", &C::extra, "keys that the library does not know, as JSON text")
      .def_prop_ro(
          "context_limit", [](const C& config) { return config.context_limit(); }, "positions that a sequence may take")
      .def("__repr__", [](const C& config) {
        return fmt::format("Config({}, {} layers, hidden_size {}, {} heads over {}, vocab_size {})",
                           config.architecture, config.num_hidden_layers, config.hidden_size,
                           config.num_attention_heads, config.num_key_value_heads, config.vocab_size);
      });
}

}  // namespace lathe::python
