// Recording, and the one loop that runs it backwards.
#include "autograd/tape.h"

#include <atomic>

#include "autograd/dispatch.h"
#include "kernels/activation.h"
#include "tensor/interruption.h"

namespace lathe {

template <>
Tape*& Active<Tape>::slot() {
  static thread_local Tape* tape = nullptr;
  return tape;
}

namespace {

// Ids are unique over all tapes and are never used again: a tensor kept from an earlier step, or from the tape around
// a nested one, cannot take a gradient that is meant for another.
int64_t next_id() {
  static std::atomic<int64_t> counter{1};
  return counter.fetch_add(1, std::memory_order_relaxed);
}

// sum = a + b, all contiguous.
void add_into(const Tensor& sum, const Tensor& a, const Tensor& b) {
  dispatch("gradient", sum, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::add(on, sum.data<T>(), a.data<T>(), b.data<T>(), a.elements());
  });
}

// Columns [begin, begin + width) of sum (rows, columns) += dx (rows, width).
void add_into_columns(const Tensor& sum, int64_t begin, const Tensor& dx) {
  dispatch("gradient", sum, [&](auto on, auto element) {
    using T = decltype(element);
    const Rows<T> columns{sum.data<T>() + begin, sum.stride()};
    kernel::add_rows(on, columns, tokens_of<T>(dx), dx.dim(0), dx.dim(1));
  });
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
  add_into(target, sum, dx);
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
  add_into_columns(sum, begin, dx);
}

void Tape::record(const char* name, Tensor& y, Backward backward) {
  check(current() != nullptr, name, "recorded without an active tape");
  y.tape_id = next_id();
  current()->entries_.push_back({name, y.tape_id, y.shape(), std::move(backward)});
}

void Tape::watch(Tensor& x) {
  check(current() != nullptr, "watch", "no tape is active, tensor {}", x);
  x.tape_id = next_id();
  current()->watched_.insert(x.tape_id);
}

void Tape::backward(const Tensor& loss, double seed) {
  check(loss.defined() && loss.elements() == 1, "backward", "starts from one element, loss {}", loss);
  Tensor start = like(loss);
  dispatch("backward", start,
           [&](auto on, auto element) { kernel::fill(on, start.data<decltype(element)>(), seed, 1); });
  backward({{loss, start}});
}

void Tape::backward(const std::vector<Seed>& seeds) {
  for (const Seed& seed : seeds) {
    const int64_t id = seed.output.tape_id;
    bool recorded = watched_.count(id) > 0;
    for (const Entry& entry : entries_) recorded = recorded || entry.output_id == id;
    if (!recorded)
      throw Error("backward: the loss was not recorded on this tape",
                  "open a Tape::Scope around the forward, and mark what is to be trained as trainable");
  }
  const Pause pause;
  // Both are given up before the first entry runs, so that the tape is empty also when one throws.
  std::vector<Entry> entries = std::exchange(entries_, {});
  Gradients gradients;
  for (const Seed& seed : seeds) gradients.add(seed.output, seed.gradient);
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
