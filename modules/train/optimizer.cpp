#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "autograd/update.h"

namespace lathe {
namespace {

// Newton and Schulz's iteration of Jordan et al. 2024: X / |X|, then X = a X + (b A + c A A) X with A = X X^T; of a
// tall matrix the transpose's, which is X (b A + c A A) with A = X^T X.
Tensor nearly_orthogonal(const Tensor& x, const std::vector<double>& coefficients, int64_t iterations) {
  constexpr double kLeastNorm = 1e-7;
  const bool tall = x.dim(0) > x.dim(1);
  Tensor y = x.clone();
  scale_in_place(y, 1.0 / std::max(norm(y), kLeastNorm));
  for (int64_t i = 0; i < iterations; ++i) {
    const Tensor gram = matrix_product(y, tall, y, !tall);
    const Tensor update = matrix_product(gram, false, gram, false);
    combine(update, coefficients[2], gram, coefficients[1]);
    const Tensor next = tall ? matrix_product(y, false, update, false) : matrix_product(update, false, y, false);
    combine(next, 1.0, y, coefficients[0]);
    y = next;
  }
  return y;
}

// Even parts. Borders are at the start of a cache line, where no kernel's result depends on them, or of a matrix that
// must not be cut.
std::vector<int64_t> even_borders(const ParameterArena& arena, bool whole_matrices, int64_t ranks) {
  constexpr int64_t kLine = 16;
  std::vector<int64_t> borders;
  for (int64_t r = 0; r <= ranks; ++r) {
    int64_t border = arena.size() / kLine * r / ranks * kLine;
    for (const ParameterArena::Slice& s : arena.slices())
      if (whole_matrices && s.matrix && s.begin < border && border < s.begin + s.size)
        border = 2 * border < 2 * s.begin + s.size ? s.begin : (s.begin + s.size + kLine - 1) / kLine * kLine;
    borders.push_back(border);
  }
  return borders;
}

}  // namespace

double clip_factor(double clip, double norm) {
  constexpr double kRoom = 1e-6;
  return clip > 0.0 ? std::min(1.0, clip / (norm + kRoom)) : 1.0;
}

Optimizer::Optimizer(const OptimizerRecipe& recipe, const ParameterArena& arena, Communicator& ranks)
    : recipe_(recipe),
      arena_(arena),
      ranks_(ranks),
      borders_(even_borders(arena, recipe.name == OptimizerRecipe::Name::muon, ranks.size())),
      begin_(borders_[static_cast<size_t>(ranks.rank())]),
      end_(borders_[static_cast<size_t>(ranks.rank()) + 1]) {
  const auto add_state = [&](const char* name, int64_t first) {
    const int64_t begin = std::clamp(first, begin_, end_);
    states_.push_back({name, first, begin, Tensor::zeros({end_ - begin}, DType::f32, arena.values().device())});
  };
  switch (recipe.name) {
    case OptimizerRecipe::Name::adamw:
      add_state("adamw.m", 0);
      add_state("adamw.v", 0);
      break;
    case OptimizerRecipe::Name::sgd:
      if (recipe.momentum > 0.0) add_state("sgd.momentum", 0);
      break;
    case OptimizerRecipe::Name::muon:
      add_state("momentum", 0);  // the first moment of AdamW's part
      add_state("adamw.v", arena.matrices_end());
      break;
  }
  if (recipe.ema > 0.0) add_state("ema", 0);
}

void Optimizer::average(int64_t number) {
  if (recipe_.ema == 0.0) return;
  const double old = number == 1 ? 0.0 : recipe_.ema;
  combine(states_.back().values, old, arena_.values_of(begin_, end_), 1.0 - old);
}

void Optimizer::swap_average() {
  const Tensor weights = arena_.values_of(begin_, end_), kept = weights.clone();
  copy(weights, states_.back().values);
  copy(states_.back().values, kept);
}

Tensor Optimizer::state(size_t index, int64_t begin, int64_t end) const {
  const State& s = states_[index];
  return s.values.row_range(begin - s.begin, end - s.begin);
}

void Optimizer::adamw(int64_t begin, int64_t end, double weight_decay, int64_t number, double rate, double scale) {
  if (begin == end) return;
  const auto n = static_cast<double>(number);
  const AdamwStep step{.learning_rate = rate,
                       .beta1 = recipe_.beta1,
                       .beta2 = recipe_.beta2,
                       .epsilon = recipe_.epsilon,
                       .weight_decay = weight_decay,
                       .bias_correction1 = 1.0 - std::pow(recipe_.beta1, n),
                       .bias_correction2 = 1.0 - std::pow(recipe_.beta2, n),
                       .gradient_scale = scale,
                       .clear_gradient = true};
  adamw_step(arena_.values_of(begin, end), state(0, begin, end), state(1, begin, end), arena_.gradients_of(begin, end),
             step);
}

void Optimizer::sgd(int64_t begin, int64_t end, double weight_decay, double rate, double scale) {
  if (begin == end) return;
  sgd_step(arena_.values_of(begin, end), recipe_.momentum > 0.0 ? state(0, begin, end) : Tensor(),
           arena_.gradients_of(begin, end), {rate, recipe_.momentum, weight_decay, scale, true});
}

void Optimizer::muon(const ParameterArena::Slice& slice, double rate, double scale) {
  const int64_t begin = slice.begin, end = begin + slice.size;
  const Shape& shape = slice.parameter->shape;
  const Tensor g = arena_.gradients_of(begin, end).view(shape), m = state(0, begin, end).view(shape);
  scale_in_place(g, scale);
  combine(m, recipe_.momentum, g, 1.0 - recipe_.momentum);
  const Tensor direction = m.clone();
  if (recipe_.nesterov) combine(direction, recipe_.momentum, g, 1.0 - recipe_.momentum);
  const Tensor update = nearly_orthogonal(direction, recipe_.coefficients, recipe_.iterations);
  const auto rows = static_cast<double>(shape[0]), columns = static_cast<double>(shape[1]);
  const double factor = recipe_.scale == OptimizerRecipe::Scale::spectral ? std::sqrt(std::max(1.0, rows / columns))
                                                                          : 0.2 * std::sqrt(std::max(rows, columns));
  const Tensor w = arena_.values_of(begin, end).view(shape);
  combine(w, 1.0 - rate * recipe_.weight_decay, update, -rate * factor);
  fill(g, 0.0);
}

void Optimizer::update(int64_t begin, int64_t end, int64_t number, double rate, double scale) {
  begin = std::max(begin, begin_);
  end = std::max(begin, std::min(end, end_));
  const double decay = begin < arena_.decayed_end() ? recipe_.weight_decay : 0.0;
  if (recipe_.name == OptimizerRecipe::Name::sgd)
    sgd(begin, end, decay, rate, scale);
  else
    adamw(begin, end, decay, number, rate, scale);
}

void Optimizer::step(int64_t number, double rate, double scale, UpdateRatios* ratios) {
  const bool by_matrix = recipe_.name == OptimizerRecipe::Name::muon;
  double squares[6] = {};  // of weights and of their changes, by group
  for (const ParameterArena::Slice& s : arena_.slices()) {
    const int64_t begin = std::max(s.begin, begin_), end = std::min(s.begin + s.size, end_);
    if (begin >= end || (!ratios && !(by_matrix && s.matrix))) continue;
    const Tensor now = arena_.values_of(begin, end);
    const Tensor before = ratios ? now.clone() : Tensor();
    if (by_matrix && s.matrix)
      muon(s, rate, scale);
    else
      update(begin, end, number, rate, scale);
    if (!ratios) continue;
    const int group = s.matrix ? 0 : s.decays ? 1 : 2;
    squares[group] += std::pow(norm(before), 2);
    combine(before, -1.0, now, 1.0);
    squares[3 + group] += std::pow(norm(before), 2);
  }
  if (ratios) {
    ranks_.sum(squares);
    const auto ratio = [&](int group) {
      return squares[group] > 0.0 ? std::sqrt(squares[3 + group] / squares[group]) : 0.0;
    };
    *ratios = {ratio(0), ratio(1), ratio(2)};
    return;
  }
  if (!by_matrix) update(0, arena_.matrices_end(), number, rate, scale);
  update(arena_.matrices_end(), arena_.decayed_end(), number, rate, scale);
  update(arena_.decayed_end(), arena_.size(), number, rate, scale);
}

double Optimizer::gradient_norm() const {
  return std::sqrt(ranks_.sum(std::pow(norm(arena_.gradients_of(begin_, end_)), 2)));
}

std::string Optimizer::first_not_finite() const {
  const float* g = arena_.gradients().host<float>();
  std::string found;
  for (const ParameterArena::Slice& s : arena_.slices())
    for (int64_t i = std::max(s.begin, begin_); i < std::min(s.begin + s.size, end_) && found.empty(); ++i)
      if (!std::isfinite(g[i]))
        found = fmt::format("the gradient of {} is {} at element {}", s.name, g[i], i - s.begin);
  for (const std::string& text : ranks_.gather_texts(found))
    if (!text.empty()) return text;
  return {};
}

Tensor Optimizer::whole(const State& state) const {
  if (ranks_.alone()) return state.values;
  Tensor all = Tensor::zeros({ranks_.is_first() ? arena_.size() - state.first : 0});
  std::vector<int64_t> borders;
  for (const int64_t border : borders_) borders.push_back(std::max<int64_t>(border - state.first, 0));
  ranks_.gather(state.values.host<float>(), all.host<float>(), borders);
  return all;
}

}  // namespace lathe
