#include "autograd/recompute.h"

#include <memory>

#include "autograd/tape.h"

namespace lathe {

RecomputedOutputs recomputed(const Tensor& x, std::function<RecomputedOutputs(const Tensor& x)> f) {
  if (Tape::current() == nullptr) return f(x);
  RecomputedOutputs made;
  {
    const Tape::Pause paused;
    made = f(x);
  }
  // Backward reaches the further outputs first: their gradients wait here for the entry of the whole.
  const auto gradients = std::make_shared<std::vector<Tensor>>(made.more.size());
  Tape::record("recompute", made.y, [x, f = std::move(f), gradients](const Tensor& dy, Gradients& g) {
    Tape inner;
    Tensor input = x;
    std::vector<Tape::Seed> seeds;
    {
      const Tape::Scope recording(inner);
      Tape::watch(input);
      const RecomputedOutputs again = f(input);
      seeds.push_back({again.y, dy});
      for (size_t i = 0; i < again.more.size(); ++i)
        if ((*gradients)[i].defined()) seeds.push_back({again.more[i], (*gradients)[i]});
    }
    inner.backward(seeds);
    if (Gradients::wanted(x)) g.add(x, inner.gradient_of(input));
  });
  for (size_t i = 0; i < made.more.size(); ++i)
    Tape::record("recompute", made.more[i], [gradients, i](const Tensor& dy, Gradients&) { (*gradients)[i] = dy; });
  return made;
}

}  // namespace lathe
