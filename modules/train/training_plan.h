// What a training run will take of memory and work, found before it begins.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "train/recipe.h"

namespace lathe {

struct TrainingPlan {
  int64_t parameters = 0, trainable = 0;
  // Bytes. What a step allocates is counted by running one, forwards and backwards, on the plan device.
  size_t data = 0;                                // mapped: 4 bytes a token, where the files are there
  size_t frozen = 0;                              // weights that are not trained, as they are loaded
  size_t weights = 0, gradients = 0, states = 0;  // of what is, in f32
  size_t step = 0, evaluation = 0;
  size_t loading = 0;              // most before the first step
  int64_t operations_a_token = 0;  // see TrainingSpeed
  int64_t tokens_a_step = 0;

  size_t tensors() const {
    return std::max(loading, frozen + weights + gradients + states + std::max(step, evaluation));
  }
  size_t peak() const { return data + tensors(); }
};
// Of rows as long as the context. Reads no weights and no data: of text, four bytes are taken for a token, one where
// tokens are characters.
TrainingPlan plan_training(const Recipe& recipe);

// While it lives, the CPU's pool keeps what steps of full rows need, and no more when rows are shorter: without it a
// step's large tensors would go back to the system, and their pages be cleared anew.
class StepsMemory {
 public:
  explicit StepsMemory(const Recipe& recipe);
  ~StepsMemory();
  StepsMemory(const StepsMemory&) = delete;
  StepsMemory& operator=(const StepsMemory&) = delete;
};

// Bytes of this process beside a run's tensors, measured: it makes steps of a small model, as the recipe has them, so
// that code and the scratch of its kernels are there, and gives their tensors back.
size_t measure_training_runtime(const Recipe& recipe);

// The recipe with smaller micro-batches, as many more of them a step, and blocks that are computed again where they
// must be, so that its plan is at most `bytes`: of those that fit the one with the least work, then the largest
// micro-batches. Nothing where none fits.
std::optional<Recipe> fitting_recipe(const Recipe& recipe, size_t bytes);

}  // namespace lathe
