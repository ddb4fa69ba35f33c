"""Cases of ../shared/acceptance/compare.py besides its own: other sizes, and every option of the families. Widths are no multiples of 16."""
import transformers as T

SALT, V = b"lathe-reference-", 131
BASE = dict(vocab_size=V, max_position_embeddings=96, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6)


def case(family, config=None, **k):
    """A function that makes a model of a family of transformers: "Qwen3"."""
    return lambda: getattr(T, family + "ForCausalLM")((config or getattr(T, family + "Config"))(**{**BASE, **k}))


def rope(theta=10000.0, kind="default", **k):
    return dict(rope_theta=theta, rope_type=kind, **k)


def longrope(original, **k):
    return rope(1e4, "longrope", original_max_position_embeddings=original, short_factor=[1.0, 1.1, 1.3, 1.7], long_factor=[1.0, 2.0, 4.0, 8.0], **k)


def falcon(**k):
    sizes = {n: v for n, v in BASE.items() if n != "intermediate_size"}
    return lambda: T.FalconForCausalLM(T.FalconConfig(**{**sizes, "new_decoder_architecture": False, **k}))


def mpt(heads, **attention):
    return lambda: T.MptForCausalLM(T.MptConfig(vocab_size=V, d_model=48, n_heads=heads, n_layers=3, max_seq_len=96, attn_config=attention))


CASES = {
    "mistral_no_window": case("Mistral", num_key_value_heads=3, sliding_window=None, head_dim=20, tie_word_embeddings=True,
                              rope_parameters=rope(1e6)),
    "mistral_window_of_one": case("Mistral", num_key_value_heads=1, sliding_window=1, rope_parameters=rope()),
    "mixtral_top_1": case("Mixtral", num_key_value_heads=6, num_local_experts=7, num_experts_per_tok=1, sliding_window=5, rope_parameters=rope(1e6)),
    "mixtral_all": case("Mixtral", num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=3, tie_word_embeddings=True,
                        rope_parameters=rope(1e6)),
    "qwen2_layer_types": case("Qwen2", num_key_value_heads=2, use_sliding_window=True, sliding_window=6,
                              layer_types=["sliding_attention", "full_attention", "sliding_attention"], rope_parameters=rope(1e6)),
    "qwen2_yarn": case("Qwen2", num_key_value_heads=2, tie_word_embeddings=True,
                       rope_parameters=rope(1e6, "yarn", factor=4.0, original_max_position_embeddings=24)),
    "qwen3_window": case("Qwen3", num_key_value_heads=2, head_dim=16, use_sliding_window=True, sliding_window=6, max_window_layers=2,
                         rope_parameters=rope(1e6)),
    "qwen3_biases_yarn": case("Qwen3", num_key_value_heads=6, head_dim=24, attention_bias=True,
                              rope_parameters=rope(1e6, "yarn", factor=2.0, original_max_position_embeddings=48)),
    "qwen3_moe": case("Qwen3Moe", num_key_value_heads=3, num_experts=16, num_experts_per_tok=8, moe_intermediate_size=24, norm_topk_prob=True,
                      head_dim=24, rope_parameters=rope(1e6)),
    "qwen3_moe_plain_layer": case("Qwen3Moe", num_key_value_heads=3, num_experts=9, num_experts_per_tok=4, moe_intermediate_size=12,
                                  norm_topk_prob=False, attention_bias=True, mlp_only_layers=[1], rope_parameters=rope(1e6)),
    "gpt_neox_whole_heads": case("GPTNeoX", use_parallel_residual=True, hidden_act="gelu_fast", rope_parameters=rope(25000.0, partial_rotary_factor=1.0)),
    "gpt_neox_serial": case("GPTNeoX", use_parallel_residual=False, attention_bias=False, tie_word_embeddings=True,
                            rope_parameters=rope(partial_rotary_factor=0.5)),
    "gpt_neox_yarn": case("GPTNeoX", rope_parameters=rope(1e4, "yarn", factor=4.0, original_max_position_embeddings=24, partial_rotary_factor=0.5)),
    "falcon_multi_query_serial": falcon(multi_query=True, parallel_attn=False, bias=True, alibi=False),
    "falcon_many_heads_parallel": falcon(multi_query=False, parallel_attn=True, bias=False, alibi=False, ffn_hidden_size=80),
    "falcon_grouped": falcon(new_decoder_architecture=True, num_kv_heads=3, bias=True, alibi=False, tie_word_embeddings=False, rope_parameters=rope(5e5)),
    "falcon_one_norm": falcon(new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, bias=False, alibi=False),
    "falcon_rw": falcon(multi_query=False, parallel_attn=False, bias=True, alibi=True),
    "falcon_alibi_multi_query": falcon(multi_query=True, parallel_attn=True, bias=False, alibi=True),
    "mpt_six_heads": mpt(6),
    "mpt_clip_and_scale": mpt(3, clip_qkv=0.7, softmax_scale=0.2),
    "gemma_many_heads": case("Gemma", num_key_value_heads=6, head_dim=20, attention_bias=True),
    "gemma_untied": case("Gemma", num_key_value_heads=2, head_dim=16, tie_word_embeddings=False, rope_parameters=rope(5e4)),
    "gemma2_layer_types": case("Gemma2", num_key_value_heads=2, head_dim=20, sliding_window=6, query_pre_attn_scalar=9, attn_logit_softcapping=3.0,
                               final_logit_softcapping=4.0, attention_bias=True,
                               layer_types=["full_attention", "sliding_attention", "full_attention"]),
    "gemma2_no_caps": case("Gemma2", num_key_value_heads=6, head_dim=8, sliding_window=11, attn_logit_softcapping=None,
                           final_logit_softcapping=None, tie_word_embeddings=False),
    "gemma3_windows": case("Gemma3", T.Gemma3TextConfig, num_hidden_layers=7, num_key_value_heads=2, head_dim=20, sliding_window=6),
    "gemma3_softcap_untied": case("Gemma3", T.Gemma3TextConfig, num_key_value_heads=1, head_dim=16, sliding_window=11, query_pre_attn_scalar=9,
                                  final_logit_softcapping=3.0, attention_bias=True, tie_word_embeddings=False,
                                  layer_types=["full_attention", "sliding_attention", "full_attention"]),
    "gemma3_scaled": case("Gemma3", T.Gemma3TextConfig, num_key_value_heads=6, head_dim=8, sliding_window=5,
                          layer_types=["sliding_attention", "full_attention", "full_attention"],
                          rope_parameters=dict(full_attention=rope(1e6, "linear", factor=8.0), sliding_attention=rope(2e4))),
    "olmo2_grouped": case("Olmo2", num_key_value_heads=2, attention_bias=True, rope_parameters=rope(5e5)),
    "olmo2_tied_linear": case("Olmo2", num_key_value_heads=6, tie_word_embeddings=True, rope_parameters=rope(1e4, "linear", factor=3.0)),
    "phi3_window": case("Phi3", num_key_value_heads=6, sliding_window=7, rope_parameters=rope()),
    "phi3_longrope": case("Phi3", num_key_value_heads=2, original_max_position_embeddings=24, tie_word_embeddings=True, rope_parameters=rope(
        1e4, "longrope", partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.3], long_factor=[1.0, 2.0, 4.0])),
    "granite_plain": case("Granite", num_key_value_heads=6, rope_parameters=rope(1e6)),
    "granite_scaled": case("Granite", num_key_value_heads=2, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, embedding_multiplier=12.0,
                           residual_multiplier=0.3, attention_multiplier=0.05, logits_scaling=7.0, rope_parameters=rope(1e7)),
    "starcoder2_no_window": case("Starcoder2", num_key_value_heads=1, rope_parameters=rope(1e5)),
    "starcoder2_no_biases": case("Starcoder2", num_key_value_heads=6, use_bias=False, tie_word_embeddings=False, sliding_window=5,
                                 rope_parameters=rope(1e6, "yarn", factor=4.0, original_max_position_embeddings=24)),
    # Divisors of the short and of the long texts: 37 + 24 tokens are on one side of the original context in each case.
    "longrope_short": case("Llama", num_key_value_heads=2, rope_parameters=longrope(64)),
    "longrope_long": case("Llama", num_key_value_heads=2, rope_parameters=longrope(24)),
    "longrope_attention_factor": case("Llama", num_key_value_heads=2, rope_parameters=longrope(24, factor=6.0, attention_factor=1.3)),
}
