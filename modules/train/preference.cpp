// See preference.h.
#include "train/preference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>

#include "formats/safetensors.h"
#include "tensor/interruption.h"
#include "train/trainer.h"

namespace lathe {
namespace {

const std::string kTensor = "log_probabilities", kDataKey = "data";

// log(1 + exp(x)) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

}  // namespace

Tensor answer_log_probabilities(const CausalLM& model, const Batch& batch, const TrainingRows& rows) {
  std::vector<int32_t> places, targets;
  for (size_t i = 0; i < rows.targets.size(); ++i) {
    if (rows.targets[i] == kIgnoredTarget) continue;
    places.push_back(static_cast<int32_t>(i));
    targets.push_back(rows.targets[i]);
  }
  const Shape shape{std::ssize(places)};
  const auto on_device = [&](const std::vector<int32_t>& ids) {
    return Tensor::of<int32_t>(shape, ids.data()).to(batch.tokens.device());
  };
  const Tensor hidden = select_rows(model.hidden(batch), on_device(places));  // (R, C)
  return linear_log_probabilities(hidden, model.head(), on_device(targets));  // (R)
}

ScoredAnswers score_answers(const CausalLM& model, const Batch& batch, const TrainingRows& rows) {
  ScoredAnswers answers;
  answers.log_probabilities = answer_log_probabilities(model, batch, rows);
  answers.sums.resize(rows.seq_start.size() - 1);
  const Tensor on_host = answers.log_probabilities.to(Device{});  // (R)
  const float* next = on_host.host<float>();
  for (size_t s = 0; s < answers.sums.size(); ++s)
    for (auto i = static_cast<size_t>(rows.seq_start[s]); i < static_cast<size_t>(rows.seq_start[s + 1]); ++i) {
      if (rows.targets[i] == kIgnoredTarget) continue;
      answers.sequence_of.push_back(static_cast<int32_t>(s));
      answers.sums[s] += static_cast<double>(*next++);
    }
  return answers;
}

bool ReferenceScores::has(const std::vector<int64_t>& records) const {
  return std::all_of(records.begin(), records.end(),
                     [&](int64_t r) { return r < std::ssize(scores_) && !std::isnan((*this)[r]); });
}

void ReferenceScores::prepare(const CausalLM& model, const Dataset& data, int64_t rows, int64_t batch_size,
                              const std::string& file) {
  const Tape::Pause pause;
  read(file, data.key());
  bool changed = false;
  for (int64_t first = 0; first < rows; first += batch_size) {
    const TrainingRows part = data.rows(first, std::min(batch_size, rows - first));
    if (has(part.pieces)) continue;
    Interruption::point();
    changed = true;
    const ScoredAnswers answers = score_answers(model, make_training_batch(model, part), part);
    for (size_t s = 0; s < part.pieces.size(); ++s) {
      const auto record = static_cast<size_t>(part.pieces[s]);
      if (record >= scores_.size()) scores_.resize(record + 1, std::numeric_limits<double>::quiet_NaN());
      scores_[record] = answers.sums[s];
    }
  }
  if (changed) write(file, data.key());
}

void ReferenceScores::read(const std::string& file, const std::string& data_key) {
  if (!std::filesystem::exists(file)) return;
  std::map<std::string, std::string> metadata;
  const std::vector<StoredTensor> tensors = read_safetensors(file, &metadata);
  if (metadata[kDataKey] != data_key) return;
  check(tensors.size() == 1 && tensors[0].name == kTensor && tensors[0].dtype == DType::f64, "train",
        "{}: expected one tensor {} in f64", file, kTensor);
  scores_.resize(tensors[0].bytes / sizeof(double));
  std::memcpy(scores_.data(), tensors[0].data, tensors[0].bytes);
}

void ReferenceScores::write(const std::string& file, const std::string& data_key) const {
  write_safetensors(file, {{kTensor, Tensor::of<double>({std::ssize(scores_)}, scores_.data())}},
                    {{kDataKey, data_key}});
}

PreferenceLoss preference_loss(const ScoredAnswers& answers, const TrainingRows& rows, const ReferenceScores& reference,
                               double beta, int64_t pairs) {
  const auto count = static_cast<double>(pairs);
  PreferenceLoss result;
  std::vector<float> weights(answers.sums.size());  // the gradient by each sequence's sum
  for (size_t chosen = 0, rejected = 1; rejected < rows.pieces.size(); chosen += 2, rejected += 2) {
    check(rows.pieces[chosen] % 2 == 0 && rows.pieces[rejected] == rows.pieces[chosen] + 1, "preference",
          "records {} and {} are no pair", rows.pieces[chosen], rows.pieces[rejected]);
    const auto gain = [&](size_t s) { return answers.sums[s] - reference[rows.pieces[s]]; };
    const double margin = beta * (gain(chosen) - gain(rejected));
    result.loss += softplus(-margin) / count;
    result.margin += margin / count;
    result.accuracy += (margin > 0.0 ? 1.0 : 0.0) / count;
    const double slope = beta / (1.0 + std::exp(margin)) / count;
    weights[chosen] = static_cast<float>(-slope);
    weights[rejected] = static_cast<float>(slope);
  }
  const Tensor gradient = Tensor::empty(answers.log_probabilities.shape());  // (R)
  for (size_t i = 0; i < answers.sequence_of.size(); ++i)
    gradient.host<float>()[i] = weights[static_cast<size_t>(answers.sequence_of[i])];
  result.seed = {answers.log_probabilities, gradient.to(answers.log_probabilities.device())};
  return result;
}

}  // namespace lathe
