#include "python/src/trainer.h"

#include <cmath>

#include "autograd/tape.h"
#include "autograd/update.h"
#include "common/router_logits.h"
#include "llm/adapter.h"
#include "tensor/interruption.h"
#include "train/run.h"
#include "train/trainer.h"

namespace lathe::python {

Trainer::Trainer(std::shared_ptr<Model> model, const Recipe& recipe, const Poll& poll)
    : model_(std::move(model)), recipe_(recipe) {
  check(recipe_.optimizer.decayed.empty(), "Trainer", "optimizer.decayed is not asked for: a tensor's kind decides");
  check(recipe_.optimizer.ema == 0.0, "Trainer",
        "optimizer.ema is for `lathe train`; the weights here are the last step's");
  model_->exclusively(poll, [&] {
    check(!model_->has_trainer_, "Trainer", "the model has one already");
    choose_what_is_trained();
    optimizer_.emplace(recipe_.optimizer, model_->arena(), Communicator::one(), recipe_.training.seed);
    clear();
    model_->has_trainer_ = true;
  });
}

void Trainer::choose_what_is_trained() {
  CausalLM& model = *model_->loaded().model;
  if (!recipe_.adapter && !model.adapter) return model_->require_trainable("Trainer");
  if (model.adapter && !model_->trains_adapter())
    throw Error("Trainer: the model was loaded with an adapter, which it does not train",
                "merge it with `lathe convert --merge` and load the result; or load the base, and give `adapter`");
  if (!recipe_.adapter) return;
  check(!model_->arena_, "Trainer", "the model's weights, or another adapter, are trained already");
  for (const NamedParameter& p : named_parameters(model))
    if (p.parameter->packed && is_integer(p.parameter->packed->arithmetic))
      throw Error("Trainer: the model multiplies in int8 or int16, which has no gradient",
                  "load it with dtype=\"float32\" or \"bfloat16\"; its weights may stay in 4 bits");
  attach_adapter(model, recipe_);
  initialise_adapter(model, recipe_.training.seed);
  model_->engine().forget_prefixes();
}

Trainer::~Trainer() { model_->has_trainer_ = false; }

void Trainer::clear() {
  fill(model_->arena_->gradients(), 0.0);
  has_gradients_ = false;
}

double Trainer::backward(const Sequences& sequences, std::optional<std::span<const float>> weights, const Poll& poll) {
  const TrainingRows rows = model_->rows_of(sequences);
  check(!weights || std::ssize(*weights) == rows.target_count, "weights", "expected {}, found {}", rows.target_count,
        weights ? weights->size() : 0);
  return model_->exclusively(poll, [&] {
    const Interruption asking(poll);
    const CausalLM& model = *model_->loaded().model;
    try {
      const MicroBatchScope scope(recipe_, steps_ + 1, calls_++);
      Tape tape;
      Tensor log_probabilities, balance;  // (R), (1)
      {
        const Tape::Scope recording(tape);
        std::vector<Tensor> router_logits;
        const RouterLogits collecting(router_logits);
        const Batch batch = make_training_batch(model, rows, recipe_.training.recompute);
        log_probabilities = answer_log_probabilities(model, batch, rows);
        balance = router_balance_loss(model, router_logits, recipe_.training.router_balance.value_or(0.0));
      }
      const Tensor gradient = Tensor::empty(log_probabilities.shape(), DType::f32);  // (R)
      double loss = 0.0;
      for (int64_t i = 0; i < rows.target_count; ++i) {
        const double weight = weights ? static_cast<double>((*weights)[static_cast<size_t>(i)])
                                      : 1.0 / static_cast<double>(rows.target_count);
        loss -= weight * static_cast<double>(log_probabilities.host<float>()[i]);
        gradient.host<float>()[i] = static_cast<float>(-weight);
      }
      std::vector<Tape::Seed> seeds{{log_probabilities, gradient}};
      if (balance.defined()) {
        seeds.push_back({balance, like(balance)});
        fill(seeds.back().gradient, 1.0);
      }
      tape.backward(seeds);
      has_gradients_ = true;
      return loss;
    } catch (...) {
      clear();
      throw;
    }
  });
}

double Trainer::step(std::optional<double> learning_rate, const Poll& poll) {
  const double rate = learning_rate.value_or(recipe_.optimizer.learning_rate);
  check(std::isfinite(rate) && rate >= 0.0, "learning_rate", "expected a number of at least 0, found {}", rate);
  return model_->exclusively(poll, [&] {
    check(has_gradients_, "step", "there are no gradients: backward makes them");
    const double norm = optimizer_->gradient_norm();
    if (!std::isfinite(norm)) {
      const std::string which = optimizer_->first_not_finite();
      clear();
      throw Error(fmt::format("step: {}; the weights are as they were, the gradients zero",
                              which.empty() ? "the norm of the gradients is not finite" : which));
    }
    optimizer_->step(++steps_, rate, clip_factor(recipe_.training.clip, norm));
    calls_ = 0;
    has_gradients_ = false;
    model_->engine().forget_prefixes();
    return norm;
  });
}

}  // namespace lathe::python
