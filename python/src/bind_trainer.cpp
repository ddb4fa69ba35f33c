// The compiled part of lathe.Trainer; python/lathe/trainer.py makes arrays of what it is given.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "python/src/arrays.h"
#include "python/src/bindings.h"
#include "python/src/trainer.h"

namespace lathe::python {
namespace {

using Weights = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void construct_trainer(Trainer* trainer, const std::shared_ptr<Model>& model,
                       const std::vector<std::string>& settings) {
  const Recipe recipe = recipe_of(settings, "Trainer");
  without_interpreter([&] { new (trainer) Trainer(model, recipe, check_signals); });
}

double backward(Trainer& trainer, const nb::list& sequences, const std::optional<Weights>& weights) {
  const IdLists ids(sequences);
  std::optional<std::span<const float>> view;
  if (weights) view.emplace(weights->data(), weights->shape(0));
  return without_interpreter([&] { return trainer.backward(ids.views(), view, check_signals); });
}

}  // namespace

void bind_trainer(nb::module_& m) {
  nb::class_<Trainer> c(m, "Trainer", "The compiled part of lathe.Trainer.");
  c.def("__init__", &construct_trainer, nb::arg("model"), nb::arg("settings"),
        nb::sig("def __init__(self, model: Model, settings: list[str]) -> None"));
  c.def("_backward", &backward, nb::arg("sequences"), nb::arg("weights").none(),
        nb::sig("def _backward(self, sequences: list[" LATHE_IDS
                "], weights: numpy.typing.NDArray[numpy.float32] | None) -> float"));
  c.def(
      "_step",
      [](Trainer& self, std::optional<double> learning_rate) {
        return without_interpreter([&] { return self.step(learning_rate, check_signals); });
      },
      nb::arg("learning_rate").none(), nb::sig("def _step(self, learning_rate: float | None) -> float"));
  c.def_prop_ro("steps", &Trainer::steps, "Steps that were made.");
}

}  // namespace lathe::python
