// Recording, and the one loop that runs it backwards.
#include "autograd/tape.h"

#include <atomic>
#include <utility>

#include "kernels/activation.h"
#include "tensor/interruption.h"

namespace lathe {
namespace {

thread_local Tape* tape_in_force = nullptr;

// Ids are unique over all tapes and are never used again: a tensor kept from an earlier step, or from the tape around
// a nested one, cannot take a gradient that is meant for another.
int64_t next_id() {
  static std::atomic<int64_t> counter{1};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

template <class T>
void add_into(const Tensor& sum, const Tensor& a, const Tensor& b) {
  cpu::add(sum.data<T>(), a.data<T>(), b.data<T>(), a.elements());
}

template <class T>
void add_into_columns(const Tensor& sum, int64_t begin, const Tensor& dx) {
  const int64_t width = dx.dim(1), stride = sum.stride();
  for (int64_t row = 0; row < dx.dim(0); ++row) {
    T* out = sum.data<T>() + row * stride + begin;
    cpu::add(out, out, dx.data<T>() + row * width, width);
  }
}

}  // namespace

void Gradients::add(const Tensor& x, Tensor dx) {
  if (!wanted(x)) return;
  check(dx.elements() == x.elements() && dx.dtype() == x.dtype() && dx.contiguous(), "gradient",
        "of {} cannot be {}, stride {}", x, dx, dx.stride());
  dx.tape_id = 0;
  const auto [entry, first] = by_id_.try_emplace(x.tape_id, dx);
  if (first) return;
  Tensor& sum = entry->second;
  // A tensor given to several inputs (as `add` does) is written to by nobody; each later sum gets its own.
  const Tensor target = sum.storage().use_count() == 1 ? sum : like(sum);
  if (x.dtype() == DType::f64)
    add_into<double>(target, sum, dx);
  else
    add_into<float>(target, sum, dx);
  sum = target;
}

void Gradients::add_columns(const Tensor& x, int64_t begin, const Tensor& dx) {
  if (!wanted(x)) return;
  check(x.rank() == 2 && dx.rank() == 2 && dx.dim(0) == x.dim(0) && dx.dtype() == x.dtype() && dx.contiguous() &&
            begin >= 0 && begin + dx.dim(1) <= x.dim(1),
        "gradient", "of columns from {} of {} cannot be {}", begin, x, dx);
  const auto [entry, first] = by_id_.try_emplace(x.tape_id);
  Tensor& sum = entry->second;
  if (first)
    sum = Tensor::zeros(x.shape(), x.dtype(), x.device());
  else if (sum.storage().use_count() > 1)
    sum = sum.clone();
  sum = sum.view(x.shape());
  if (x.dtype() == DType::f64)
    add_into_columns<double>(sum, begin, dx);
  else
    add_into_columns<float>(sum, begin, dx);
}

Tape::Scope::Scope(Tape& tape) : outer_(std::exchange(tape_in_force, &tape)) {}
Tape::Scope::~Scope() { tape_in_force = outer_; }
Tape::Pause::Pause() : outer_(std::exchange(tape_in_force, nullptr)) {}
Tape::Pause::~Pause() { tape_in_force = outer_; }

Tape* Tape::current() { return tape_in_force; }

void Tape::record(const char* name, Tensor& y, Backward backward) {
  check(tape_in_force != nullptr, name, "recorded without a tape in force");
  y.tape_id = next_id();
  tape_in_force->entries_.push_back({name, y.tape_id, y.shape(), std::move(backward)});
}

void Tape::watch(Tensor& x) {
  check(tape_in_force != nullptr, "watch", "no tape is in force, tensor {}", x);
  x.tape_id = next_id();
  tape_in_force->watched_.insert(x.tape_id);
}

void Tape::backward(const Tensor& loss, double seed) {
  check(loss.defined() && loss.elements() == 1, "backward", "starts from one element, loss {}", loss);
  bool recorded = watched_.count(loss.tape_id) > 0;
  for (const Entry& entry : entries_) recorded = recorded || entry.output_id == loss.tape_id;
  if (!recorded)
    throw Error("backward: the loss was not recorded on this tape",
                "open a Tape::Scope around the forward, and mark what is to be trained as trainable");
  const Pause pause;
  // Both are given up before the first entry runs, so that the tape is empty also when one throws.
  std::vector<Entry> entries = std::exchange(entries_, {});
  Gradients gradients;
  Tensor start = like(loss);
  if (loss.dtype() == DType::f64)
    *start.data<double>() = seed;
  else
    *start.data<float>() = static_cast<float>(seed);
  gradients.add(loss, start);
  start = {};
  for (; !entries.empty(); entries.pop_back()) {
    Interruption::point();
    const Entry& entry = entries.back();
    auto found = gradients.by_id_.extract(entry.output_id);
    if (!found.empty()) entry.backward(found.mapped().view(entry.shape), gradients);
  }
  watched_gradients_.clear();
  for (auto& [id, gradient] : gradients.by_id_)
    if (watched_.count(id)) watched_gradients_.emplace(id, std::move(gradient));
  watched_.clear();
}

Tensor Tape::gradient_of(const Tensor& x) const {
  const auto found = watched_gradients_.find(x.tape_id);
  return found == watched_gradients_.end() ? Tensor::zeros(x.shape(), x.dtype(), x.device())
                                           : found->second.view(x.shape());
}

}  // namespace lathe
