#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "tensor/random.h"

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

// Even parts. Borders are at the start of a block of states, where no kernel's result depends on them, or of a matrix
// that must not be cut.
std::vector<int64_t> even_borders(const ParameterArena& arena, bool whole_matrices, int64_t ranks) {
  std::vector<int64_t> borders;
  for (int64_t r = 0; r < ranks; ++r) {
    int64_t border = arena.size() / kStateBlock * r / ranks * kStateBlock;
    for (const ParameterArena::Slice& s : arena.slices())
      if (whole_matrices && s.matrix && s.begin < border && border < s.begin + s.size)
        border = 2 * border < 2 * s.begin + s.size ? s.begin : s.begin + s.room;
    borders.push_back(border);
  }
  borders.push_back(arena.size());
  return borders;
}

Tensor range(const Tensor& values, int64_t begin, int64_t end) { return values.row_range(begin, end); }
CodedTensor range(const CodedTensor& x, int64_t begin, int64_t end) {
  return {x.codes.row_range(begin / 4, end / 4), x.scales.row_range(begin / kStateBlock, end / kStateBlock)};
}

}  // namespace

double clip_factor(double clip, double norm) {
  constexpr double kRoom = 1e-6;
  return clip > 0.0 ? std::min(1.0, clip / (norm + kRoom)) : 1.0;
}

Optimizer::Optimizer(const OptimizerRecipe& recipe, const ParameterArena& arena, Communicator& ranks, uint64_t seed,
                     Communicator& tensor_ranks)
    : recipe_(recipe),
      arena_(arena),
      ranks_(ranks),
      tensor_ranks_(tensor_ranks),
      seed_(seed),
      borders_(even_borders(arena, recipe.name == OptimizerRecipe::Name::muon, ranks.size())),
      begin_(borders_[static_cast<size_t>(ranks.rank())]),
      end_(borders_[static_cast<size_t>(ranks.rank()) + 1]) {
  const Device device = arena.values().device();
  if (recipe.states == OptimizerRecipe::States::int8 && device.kind == Device::Kind::cuda)
    throw Error(fmt::format("optimizer: states in 8 bits are computed on the CPU alone, the weights lie on {}",
                            to_string(device)),
                "optimizer.states: float32 trains there");
  add_sections();
  for (Section& section : sections_) add_states(section);
  if (recipe.ema > 0.0) add_state("ema", 0, arena.size(), 1);
}

void Optimizer::add_sections() {
  const std::span<const ParameterArena::Slice> slices = arena_.slices();
  const auto is_coded = [&](const ParameterArena::Slice& s) {
    return recipe_.states == OptimizerRecipe::States::int8 && s.decays && s.size >= ParameterArena::kLarge;
  };
  for (size_t from = 0, to = 0; from < slices.size(); from = to) {
    const ParameterArena::Slice& first = slices[from];
    while (to < slices.size() && slices[to].matrix == first.matrix && slices[to].decays == first.decays &&
           is_coded(slices[to]) == is_coded(first))
      ++to;
    Section section{.slices = slices.subspan(from, to - from), .coded = is_coded(first)};
    section.begin = std::clamp(section.first_element(), begin_, end_);
    section.end = std::clamp(section.last_element(), begin_, end_);
    sections_.push_back(std::move(section));
  }
}

void Optimizer::add_states(Section& section) {
  switch (recipe_.name) {
    case OptimizerRecipe::Name::adamw:
      section.first = add_moment("adamw.m", section);
      section.second = add_moment("adamw.v", section);
      break;
    case OptimizerRecipe::Name::sgd:
      if (recipe_.momentum > 0.0) section.first = add_moment("sgd.momentum", section);
      break;
    case OptimizerRecipe::Name::muon:
      section.first = add_moment("momentum", section);  // the first moment of AdamW's part
      if (!section.matrix()) section.second = add_moment("adamw.v", section);
      break;
  }
}

Optimizer::Moment Optimizer::add_moment(const char* name, const Section& section) {
  const int64_t begin = section.first_element(), end = section.last_element();
  Moment moment;
  if (section.coded) {
    moment.coded.codes = add_state(fmt::format("{}.codes", name), begin, end, 4);
    moment.coded.scales = add_state(fmt::format("{}.scales", name), begin, end, kStateBlock);
  } else {
    moment.values = add_state(name, begin, end, 1);
  }
  return moment;
}

Tensor Optimizer::add_state(const std::string& name, int64_t first, int64_t last, int64_t share) {
  const int64_t begin = std::clamp(first, begin_, end_), end = std::clamp(last, begin_, end_);
  Tensor values =
      Tensor::zeros({(end - begin) / share}, share == 4 ? DType::i32 : DType::f32, arena_.values().device());
  states_.push_back({name, first, last, begin, share, values});
  return values;
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

StateDraws Optimizer::draws(int64_t begin, int64_t number) const {
  static const uint64_t stream = random_stream("optimizer.states");
  return {seed_, stream + static_cast<uint64_t>(number), begin / kStateBlock};
}

void Optimizer::adamw(const Section& section, int64_t begin, int64_t end, int64_t number, double rate, double scale) {
  const auto n = static_cast<double>(number);
  const AdamwStep step{.learning_rate = rate,
                       .beta1 = recipe_.beta1,
                       .beta2 = recipe_.beta2,
                       .epsilon = recipe_.epsilon,
                       .weight_decay = section.decays() ? recipe_.weight_decay : 0.0,
                       .bias_correction1 = 1.0 - std::pow(recipe_.beta1, n),
                       .bias_correction2 = 1.0 - std::pow(recipe_.beta2, n),
                       .gradient_scale = scale,
                       .clear_gradient = true};
  const Tensor w = arena_.values_of(begin, end), g = arena_.gradients_of(begin, end);
  const int64_t from = begin - section.begin, to = end - section.begin;
  if (section.coded)
    adamw_step(w, range(section.first.coded, from, to), range(section.second.coded, from, to), g, step,
               draws(begin, number));
  else
    adamw_step(w, range(section.first.values, from, to), range(section.second.values, from, to), g, step);
}

void Optimizer::sgd(const Section& section, int64_t begin, int64_t end, int64_t number, double rate, double scale) {
  const double decay = section.decays() ? recipe_.weight_decay : 0.0;
  const SgdStep step{rate, recipe_.momentum, decay, scale, true};
  const Tensor w = arena_.values_of(begin, end), g = arena_.gradients_of(begin, end);
  const int64_t from = begin - section.begin, to = end - section.begin;
  if (recipe_.momentum > 0.0 && section.coded)
    sgd_step(w, range(section.first.coded, from, to), g, step, draws(begin, number));
  else
    sgd_step(w, recipe_.momentum > 0.0 ? range(section.first.values, from, to) : Tensor(), g, step);
}

void Optimizer::muon(const Section& section, const ParameterArena::Slice& slice, int64_t number, double rate,
                     double scale) {
  const int64_t begin = slice.begin, end = begin + slice.size;
  const int64_t from = begin - section.begin, to = from + slice.room;
  const Shape& shape = slice.parameter->shape;
  const Tensor g = arena_.gradients_of(begin, end).view(shape);
  const Tensor whole = section.coded ? decode_state(range(section.first.coded, from, to), StateMap::any_sign)
                                     : range(section.first.values, from, to);
  const Tensor m = whole.row_range(0, slice.size).view(shape);
  scale_in_place(g, scale);
  combine(m, recipe_.momentum, g, 1.0 - recipe_.momentum);
  if (section.coded)
    encode_state(range(section.first.coded, from, to), whole, StateMap::any_sign, draws(begin, number));
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

void Optimizer::update(const Section& section, int64_t begin, int64_t end, int64_t number, double rate, double scale) {
  if (begin == end) return;
  if (recipe_.name == OptimizerRecipe::Name::sgd)
    sgd(section, begin, end, number, rate, scale);
  else
    adamw(section, begin, end, number, rate, scale);
}

void Optimizer::step(int64_t number, double rate, double scale, UpdateRatios* ratios) {
  double squares[6] = {};  // of weights and of their changes, by group
  for (const Section& section : sections_) {
    const bool by_matrix = recipe_.name == OptimizerRecipe::Name::muon && section.matrix();
    if (!ratios && !by_matrix) {
      update(section, section.begin, section.end, number, rate, scale);
      continue;
    }
    for (const ParameterArena::Slice& s : section.slices) {
      const int64_t begin = std::max(s.begin, begin_), end = std::min(s.begin + s.room, end_);
      if (begin >= end) continue;
      const Tensor now = arena_.values_of(begin, end);
      const Tensor before = ratios ? now.clone() : Tensor();
      if (by_matrix)
        muon(section, s, number, rate, scale);
      else
        update(section, begin, end, number, rate, scale);
      if (!ratios || !counts(s)) continue;
      const int group = s.matrix ? 0 : s.decays ? 1 : 2;
      squares[group] += std::pow(norm(before), 2);
      combine(before, -1.0, now, 1.0);
      squares[3 + group] += std::pow(norm(before), 2);
    }
  }
  if (!ratios) return;
  sum_over_ranks(squares);
  const auto ratio = [&](int group) {
    return squares[group] > 0.0 ? std::sqrt(squares[3 + group] / squares[group]) : 0.0;
  };
  *ratios = {ratio(0), ratio(1), ratio(2)};
}

void Optimizer::sum_over_ranks(std::span<double> values) const {
  ranks_.sum(values);
  tensor_ranks_.sum(values);
}

double Optimizer::gradient_norm() const {
  double squares = 0.0;
  if (tensor_ranks_.alone()) {
    squares = std::pow(norm(arena_.gradients_of(begin_, end_)), 2);
  } else {
    for (const ParameterArena::Slice& s : arena_.slices()) {
      const int64_t begin = std::max(s.begin, begin_), end = std::min(s.begin + s.size, end_);
      if (begin < end && counts(s)) squares += std::pow(norm(arena_.gradients_of(begin, end)), 2);
    }
  }
  sum_over_ranks({&squares, 1});
  return std::sqrt(squares);
}

std::string Optimizer::first_not_finite() const {
  const Tensor gradients = arena_.gradients().to(Device{});
  const float* g = gradients.host<float>();
  std::string found;
  for (const ParameterArena::Slice& s : arena_.slices())
    for (int64_t i = std::max(s.begin, begin_); i < std::min(s.begin + s.size, end_) && found.empty(); ++i)
      if (!std::isfinite(g[i]))
        found = fmt::format("the gradient of {} is {} at element {}", s.name, g[i], i - s.begin);
  return tensor_ranks_.first_text(ranks_.first_text(found));
}

Tensor Optimizer::whole(const State& state) const {
  Tensor own = state.values.to(Device{});
  if (ranks_.alone()) return own;
  Tensor all = Tensor::zeros({ranks_.is_first() ? (state.last - state.first) / state.share : 0}, state.values.dtype());
  std::vector<int64_t> borders;  // of the values, each of four bytes
  for (const int64_t border : borders_)
    borders.push_back((std::clamp(border, state.first, state.last) - state.first) / state.share);
  ranks_.gather(static_cast<const float*>(own.raw()), static_cast<float*>(all.raw()), borders);
  return all;
}

}  // namespace lathe
