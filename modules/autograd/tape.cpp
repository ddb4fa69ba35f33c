// Recording, and the one loop that runs it backwards.
#include "autograd/tape.h"

#include <algorithm>
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

// Rows of x may lie apart.
void fill_columns(const Tensor& x, double value) {
  dispatch("gradient", x, [&](auto on, auto element) {
    kernel::fill(on, tokens_of<decltype(element)>(x), value, x.dim(0), x.dim(-1));
  });
}

// sum = a + b, all contiguous.
void add_into(const Tensor& sum, const Tensor& a, const Tensor& b) {
  dispatch("gradient", sum, [&](auto on, auto element) {
    using T = decltype(element);
    kernel::add(on, sum.data<T>(), a.data<T>(), b.data<T>(), a.elements());
  });
}

// to = dx, or += where `accumulate`: rows of `to` may lie apart.
void put_into(const Tensor& to, const Tensor& dx, bool accumulate) {
  dispatch("gradient", to, [&](auto on, auto element) {
    using T = decltype(element);
    const int64_t rows = to.dim(0), width = rows > 0 ? to.elements() / rows : 0;
    kernel::put_rows(on, tokens_of<T>(to), {dx.data<T>(), width}, rows, width, accumulate);
  });
}

}  // namespace

void Gradients::add(const Tensor& x, Tensor dx) {
  if (!wanted(x)) return;
  check(dx.elements() == x.elements() && dx.dtype() == x.dtype() && dx.contiguous(), "gradient",
        "of {} cannot be {}, stride {}", x, dx, dx.stride());
  if (is_slice(x)) {
    Place place = columns(x);
    return put_into(place.to, dx, place.accumulate);
  }
  dx.tape_id = 0;
  const auto [entry, first] = by_id_.try_emplace(x.tape_id, Sum{.tensor = dx});
  if (first) return;
  Sum& sum = entry->second;
  complete(sum);
  // A tensor given to several inputs (as `add` does) is written to by nobody; each later sum gets its own.
  const Tensor target = sum.shared() ? like(sum.tensor) : sum.tensor;
  add_into(target, sum.tensor, dx);
  sum.tensor = target;
}

Gradients::Place Gradients::place(const Tensor& x, Layout layout, bool adds) {
  if (is_slice(x) && (layout == Layout::tokens || (layout == Layout::rows && x.rank() == 2))) {
    Place place = columns(x);
    if (adds || !place.accumulate) return place;
  }
  if (wanted(x) && !is_slice(x)) {
    const auto [entry, first] = by_id_.try_emplace(x.tape_id);
    Sum& sum = entry->second;
    if (first) {
      sum = {.tensor = like(x), .own = true};
      return {sum.tensor, false, true};
    }
    complete(sum);
    if (adds && !sum.shared()) return {sum.tensor.view(x.shape()), true, true};
  }
  return {like(x), false, false};
}

void Gradients::put(const Tensor& x, const Place& place) {
  if (!place.direct) add(x, place.to);
}

// A slice of a slice lies in the first one's source.
Gradients::Slice Gradients::source_of(const Tensor& slice) const {
  Slice place = slices_.at(slice.tape_id);
  while (is_slice(place.source)) {
    const Slice& outer = slices_.at(place.source.tape_id);
    place = {outer.source, outer.begin + place.begin};
  }
  return place;
}

Gradients::Place Gradients::columns(const Tensor& slice) {
  const Slice source = source_of(slice);
  const int64_t rows = slice.dim(0), width = rows > 0 ? slice.elements() / rows : 0;
  const std::pair columns{source.begin, source.begin + width};
  const auto [entry, first] = by_id_.try_emplace(source.source.tape_id);
  Sum& sum = entry->second;
  if (first) sum = {.tensor = like(source.source), .own = true, .whole = false};
  const bool fresh = !sum.whole && std::none_of(sum.written.begin(), sum.written.end(), [&](const auto& other) {
    return other.first < columns.second && columns.first < other.second;
  });
  if (fresh)
    sum.written.push_back(columns);
  else if (std::find(sum.written.begin(), sum.written.end(), columns) == sum.written.end())
    complete(sum);
  if (sum.shared()) sum.tensor = sum.tensor.clone();
  const Tensor to = sum.tensor.view(source.source.shape()).column_range(columns.first, columns.second);
  return {to.view(slice.shape()), !fresh, true};
}

// Columns that nothing was written to are zero.
void Gradients::complete(Sum& sum) {
  if (std::exchange(sum.whole, true)) return;
  std::vector<std::pair<int64_t, int64_t>> written = std::exchange(sum.written, {});
  std::sort(written.begin(), written.end());
  written.emplace_back(sum.tensor.dim(1), sum.tensor.dim(1));
  int64_t end = 0;
  for (const auto& columns : written) {
    if (end < columns.first) fill_columns(sum.tensor.column_range(end, columns.first), 0.0);
    end = columns.second;
  }
}

void Tape::record(const char* name, Tensor& y, Backward backward) {
  check(current() != nullptr, name, "recorded without an active tape");
  y.tape_id = next_id();
  current()->entries_.push_back({name, y.tape_id, y.shape(), std::move(backward)});
}

void Tape::record_columns(const char* name, Tensor& y, const Tensor& x, int64_t begin) {
  record(name, y, {});
  current()->entries_.back().columns = Gradients::Slice{x.without_elements(), begin};
}

void Tape::watch(Tensor& x) {
  check(current() != nullptr, "watch", "no tape is active, tensor {}", x);
  x.tape_id = next_id();
  current()->watched_.insert(x.tape_id);
}

void Tape::backward(const Tensor& loss, double seed) {
  check(loss.defined() && loss.elements() == 1, "backward", "starts from one element, loss {}", loss);
  const Tensor start = like(loss);
  fill_columns(start.view({1, 1}), seed);
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
  for (const Entry& entry : entries)
    if (entry.columns) gradients.slices_.emplace(entry.output_id, *entry.columns);
  for (const Seed& seed : seeds) gradients.add(seed.output, seed.gradient);
  for (; !entries.empty(); entries.pop_back()) {
    Interruption::point();
    const Entry& entry = entries.back();
    auto found = gradients.by_id_.extract(entry.output_id);
    if (found.empty()) continue;
    Gradients::complete(found.mapped());
    entry.backward(found.mapped().tensor.view(entry.shape), gradients);
  }
  watched_gradients_.clear();
  for (auto& [id, sum] : gradients.by_id_) {
    Gradients::complete(sum);
    if (watched_.count(id)) watched_gradients_.emplace(id, std::move(sum.tensor));
  }
  watched_.clear();
}

Tensor Tape::gradient_of(const Tensor& x) const {
  const auto found = watched_gradients_.find(x.tape_id);
  return found == watched_gradients_.end() ? Tensor::zeros(x.shape(), x.dtype(), x.device())
                                           : found->second.view(x.shape());
}

}  // namespace lathe
