// The tape: what the backward pass needs, in program order.
//
// Eager execution already is a topological order, so backward is one loop from the last entry to the first; an entry's
// saved tensors are freed as it is popped. A tape is active on the thread that opened its scope; without one nothing
// is recorded: that is inference.
//
//   Tape tape;
//   Tensor y;
//   { Tape::Scope recording(tape); y = loss(model, batch, targets); }
//   tape.backward(y);         // parameters now hold their gradients
#pragma once
#include <functional>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/active.h"
#include "tensor/tensor.h"

namespace lathe {

// The gradients of tensors on a tape, by tape id, while backward runs.
class Gradients {
 public:
  // Whether anybody wants the gradient of x.
  static bool wanted(const Tensor& x) { return x.tape_id != 0; }
  // Adds dx (contiguous, as many elements as x) to the gradient of x; the first writer's tensor is kept, not copied,
  // and one that several tensors share is never written to. Nothing happens where x wants no gradient.
  void add(const Tensor& x, Tensor dx);

  // Where a kernel may write the gradient of x itself, which saves a pass: set `to`, or add to it where `accumulate`,
  // then call put. `to` has the shape of x and the strides that the layout allows: rows that lie apart (of a tensor of
  // two dimensions), or what lies under each index of the first dimension. Columns of a packed projection are places in
  // one gradient.
  enum class Layout : uint8_t { contiguous, rows, tokens };
  struct Place {
    Tensor to;
    bool accumulate = false;
    bool direct = false;  // in the gradient, where put has nothing to do
  };
  // `adds`: whether the kernel can accumulate; without, `to` is a tensor of its own where there is a sum already.
  Place place(const Tensor& x, Layout layout, bool adds = false);
  void put(const Tensor& x, const Place& place);

 private:
  friend class Tape;
  // A gradient, of which only some columns [begin, end) hold anything yet where it is not whole.
  struct Sum {
    Tensor tensor;
    bool own = false;  // nobody else's, whoever holds it for the moment
    bool whole = true;
    std::vector<std::pair<int64_t, int64_t>> written = {};
    bool shared() const { return !own && tensor.storage().use_count() > 1; }
  };
  // Columns from `begin` on of the tensor `source`.
  struct Slice {
    Tensor source;
    int64_t begin;
  };
  bool is_slice(const Tensor& x) const { return slices_.count(x.tape_id) > 0; }
  Slice source_of(const Tensor& slice) const;
  Place columns(const Tensor& slice);
  static void complete(Sum& sum);

  std::unordered_map<int64_t, Sum> by_id_;
  std::unordered_map<int64_t, Slice> slices_;  // by the id of the slice
};

class Tape {
 public:
  // dy has the shape in which y was recorded, contiguous.
  using Backward = std::function<void(const Tensor& dy, Gradients& gradients)>;

  // Records on this thread while it lives.
  class Scope : public Active<Tape> {
   public:
    explicit Scope(Tape& tape) : Active(&tape) {}
  };
  // Suspends recording on this thread (evaluation inside a training step).
  class Pause : public Active<Tape> {
   public:
    Pause() : Active(nullptr) {}
  };

  static Tape* current() { return Active<Tape>::current(); }
  // Whether an op over these inputs must be recorded: a tape is active and one of them wants a gradient.
  template <class... Inputs>
  static bool recording(const Inputs&... inputs) {
    return current() != nullptr && (wants(inputs) || ...);
  }
  // Gives y a tape id and appends the entry. Call only when recording(...) said so.
  static void record(const char* name, Tensor& y, Backward backward);
  // The same for y, columns from `begin` on of x (rows, columns): their gradients are one.
  static void record_columns(const char* name, Tensor& y, const Tensor& x, int64_t begin);
  // Marks x as an input whose gradient is kept: backward leaves it in gradient_of(x). For tests and input attributions.
  static void watch(Tensor& x);

  // Runs every entry backwards from `loss` (one element), whose gradient is `seed`. The tape is empty afterwards.
  void backward(const Tensor& loss, double seed = 1.0);
  // The same from several outputs, each with its gradient: contiguous, of its shape.
  struct Seed {
    Tensor output, gradient;
  };
  void backward(const std::vector<Seed>& seeds);
  // After backward: the gradient of a tensor watched before it; zeros when nothing reached it.
  Tensor gradient_of(const Tensor& x) const;
  size_t entries() const { return entries_.size(); }

 private:
  static bool wants(const Tensor& x) { return x.tape_id != 0; }
  static bool wants(const Parameter& w) { return w.trainable && !w.packed; }  // packed: frozen
  struct Entry {
    const char* name;
    int64_t output_id;
    Shape shape;
    Backward backward;  // none for columns
    std::optional<Gradients::Slice> columns = {};
  };
  std::vector<Entry> entries_;
  std::unordered_set<int64_t> watched_;
  std::unordered_map<int64_t, Tensor> watched_gradients_;
};

}  // namespace lathe
