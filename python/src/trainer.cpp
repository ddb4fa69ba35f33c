#include "python/src/trainer.h"

#include <cmath>

#include "autograd/tape.h"
#include "autograd/update.h"
#include "tensor/interruption.h"
#include "train/trainer.h"

namespace lathe::python {

Trainer::Trainer(std::shared_ptr<Model> model, const Recipe& recipe, const Poll& poll)
    : model_(std::move(model)), recipe_(recipe) {
  check(recipe_.optimizer.decayed.empty(), "Trainer", "optimizer.decayed is not asked for: a tensor's kind decides");
  check(recipe_.optimizer.ema == 0.0, "Trainer",
        "optimizer.ema is for `lathe train`; the weights here are the last step's");
  model_->exclusively(poll, [&] {
    model_->require_trainable("Trainer");
    if (model_->loaded().model->adapter)
      throw Error("Trainer: the model has an adapter, which it does not train",
                  "`lathe train` does; or merge it with `lathe convert --merge` and load the result");
    check(!model_->has_trainer_, "Trainer", "the model has one already");
    optimizer_.emplace(recipe_.optimizer, model_->arena());
    clear();
    model_->has_trainer_ = true;
  });
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
      Tape tape;
      Tensor log_probabilities;  // (R)
      {
        const Tape::Scope recording(tape);
        log_probabilities = answer_log_probabilities(model, make_training_batch(model, rows), rows);
      }
      const Tensor gradient = Tensor::empty(log_probabilities.shape(), DType::f32);  // (R)
      double loss = 0.0;
      for (int64_t i = 0; i < rows.target_count; ++i) {
        const double weight = weights ? static_cast<double>((*weights)[static_cast<size_t>(i)])
                                      : 1.0 / static_cast<double>(rows.target_count);
        loss -= weight * static_cast<double>(log_probabilities.host<float>()[i]);
        gradient.host<float>()[i] = static_cast<float>(-weight);
      }
      tape.backward({{log_probabilities, gradient}});
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
    has_gradients_ = false;
    model_->engine().forget_prefixes();
    return norm;
  });
}

}  // namespace lathe::python
