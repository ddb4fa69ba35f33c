"""Cases of ../shared/acceptance/compare.py besides its own: other sizes, and every option of the families. Widths are no multiples of 16."""
import transformers as T

SALT, V = b"lathe-reference-", 131
BASE = dict(vocab_size=V, max_position_embeddings=96, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6)


def case(family, **k):
    """A function that makes a model of a family of transformers: "Qwen3"."""
    return lambda: getattr(T, family + "ForCausalLM")(getattr(T, family + "Config")(**{**BASE, **k}))


def rope(theta=10000.0, kind="default", **k):
    return dict(rope_theta=theta, rope_type=kind, **k)


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
}
