// The decoder that most families are: a table of embeddings, blocks, a norm, a head.
//
// A family of this form is a block type and a weight mapping; what else it does to the residual stream (positions that
// are added) makes it a class of its own.
#pragma once
#include <optional>
#include <vector>

#include "block/run_block.h"
#include "common/embedding.h"
#include "common/linear.h"
#include "common/observer.h"
#include "config/model_config.h"
#include "llm/causal_lm.h"

namespace lathe {

template <class Block, class Norm>
class Decoder final : public CausalLM {
 public:
  explicit Decoder(const ModelConfig& c)
      : CausalLM(c), embed_tokens_(sizes.vocab_size, sizes.hidden_size), norm_(c), logit_divisor_(c.logit_divisor) {
    for (int64_t layer = 0; layer < sizes.num_hidden_layers; ++layer) layers_.emplace_back(c, layer);
    if (!sizes.tie_word_embeddings) lm_head_.emplace(sizes.hidden_size, sizes.vocab_size, false, Parameter::Kind::head);
  }

  Tensor hidden(const Batch& batch) const override {
    const TapScope scope("model");
    Tensor x = embed_tokens_(batch.tokens);                                 // (N, C)
    if (sizes.embedding_scale != 1.0) x = scale(x, sizes.embedding_scale);  // (N, C)
    tap("embed_tokens", x);
    x = dropout(x);
    for (size_t i = 0; i < layers_.size(); ++i) x = run_block(layers_[i], static_cast<int64_t>(i), x, batch);  // (N, C)
    return final_norm(x);
  }

  Tensor final_norm(const Tensor& x) const override {
    const Tensor y = tap("norm", norm_(x));                             // (N, C)
    return logit_divisor_ == 1.0 ? y : scale(y, 1.0 / logit_divisor_);  // (N, C): the head is linear
  }

  Head head() const override {
    return {.weight = lm_head_ ? &lm_head_->weight : &embed_tokens_.weight, .softcap = sizes.final_logit_softcap};
  }

  void visit(Visitor& v) override {
    v("model.embed_tokens", embed_tokens_);
    v("model.layers", layers_);
    v("model.norm", norm_);
    if (lm_head_) v("lm_head", *lm_head_);
  }

 private:
  Embedding embed_tokens_;
  std::vector<Block> layers_;
  Norm norm_;
  double logit_divisor_;
  std::optional<Linear> lm_head_;
};

}  // namespace lathe
