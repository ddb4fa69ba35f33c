// lathe.Config: ModelConfig, read only. The names are the fields of modules/config/model_config.h.
#include <fmt/format.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

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
      .def_ro("qk_norm", &C::qk_norm, "RMSNorm over each head of q and k")
      .def_ro("layer_window", &C::layer_window, "keys a query sees in each layer, 0: all; empty: all layers 0")
      .def_ro("num_experts", &C::num_experts, "E, feed-forward nets that a router chooses from; 0: no router")
      .def_ro("num_experts_per_tok", &C::num_experts_per_tok, "k, nets that a token passes through")
      .def_ro("moe_intermediate_size", &C::moe_intermediate_size, "F of an expert")
      .def_ro("use_parallel_residual", &C::use_parallel_residual, "attention and net read the same stream")
      .def_ro("embedding_scale", &C::embedding_scale, "multiplies the token embeddings")
      .def_ro("attention_scale", &C::attention_scale, "multiplies q k^T; 0: 1 / sqrt(D)")
      .def_ro("final_logit_softcap", &C::final_logit_softcap, "c tanh(logit / c); 0: none")
      .def_ro("alibi", &C::alibi, "positions as a bias of the scores instead of rotation")
      .def_ro("rope_theta", &C::rope_theta, "base of the rotary frequencies")
      .def_ro("rotary_dim", &C::rotary_dim, "components of a head that are rotated; 0: no rotary positions")
      .def_ro("bos_token_id", &C::bos_token_id, "begins a text")
      .def_ro("eos_token_ids", &C::eos_token_ids, "any of them ends a generation")
      .def_ro("dtype", &C::dtype, "of the stored weights")
      .def_ro("extra", &C::extra, "keys that the library does not know, as JSON text")
      .def_prop_ro("context_limit", &C::context_limit, "positions that a sequence may take")
      .def("__repr__", [](const C& config) {
        return fmt::format("Config({}, {} layers, hidden_size {}, {} heads over {}, vocab_size {})",
                           config.architecture, config.num_hidden_layers, config.hidden_size,
                           config.num_attention_heads, config.num_key_value_heads, config.vocab_size);
      });
}

}  // namespace lathe::python
