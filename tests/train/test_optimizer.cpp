// Optimizers against their equations in double.
#include <cmath>

#include "llm/load.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/train/goldens.h"
#include "train/optimizer.h"

using namespace lathe;
using namespace lathe::test;

namespace {

using Matrix = std::vector<std::vector<double>>;

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c(a.size(), std::vector<double>(b[0].size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t k = 0; k < b.size(); ++k)
      for (size_t j = 0; j < b[0].size(); ++j) c[i][j] += a[i][k] * b[k][j];
  return c;
}
Matrix transposed(const Matrix& a) {
  Matrix t(a[0].size(), std::vector<double>(a.size()));
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[0].size(); ++j) t[j][i] = a[i][j];
  return t;
}
// y = p x + q y, element by element
Matrix sum(double p, const Matrix& x, double q, Matrix y) {
  for (size_t i = 0; i < y.size(); ++i)
    for (size_t j = 0; j < y[0].size(); ++j) y[i][j] = p * x[i][j] + q * y[i][j];
  return y;
}
// Jordan et al. 2024, on the wide side as published.
Matrix newton_schulz(const Matrix& g) {
  const bool tall = g.size() > g[0].size();
  Matrix x = tall ? transposed(g) : g;
  double squares = 0.0;
  for (const auto& row : x)
    for (const double v : row) squares += v * v;
  x = sum(0.0, x, 1.0 / std::sqrt(squares), x);
  for (int i = 0; i < 5; ++i) {
    const Matrix a = product(x, transposed(x));
    x = sum(3.4445, x, 1.0, product(sum(-4.7750, a, 2.0315, product(a, a)), x));
  }
  return tall ? transposed(x) : x;
}

}  // namespace

TEST_CASE("Muon: two steps of a tall and a wide matrix, in both scales") {
  // Products of 64 terms and 15 of them in a row: 15 * sqrt(64) * 6e-8 = 7e-6 of an update's size, which is about 1.
  constexpr double kRate = 0.1, kDecay = 0.1, kMomentum = 0.95;
  for (const auto scale : {OptimizerRecipe::Scale::spectral, OptimizerRecipe::Scale::rms}) {
    const LoadedModel loaded = trainable_golden("llama_untied_gqa");
    const ParameterArena arena(*loaded.model);
    OptimizerRecipe recipe;
    recipe.name = OptimizerRecipe::Name::muon;
    recipe.scale = scale;
    recipe.weight_decay = kDecay;
    Optimizer optimizer(recipe, arena);
    for (const char* name : {"model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight",
                             "model.layers.0.self_attn.k_proj.weight"}) {
      const auto slice = std::find_if(arena.slices().begin(), arena.slices().end(),
                                      [&](const ParameterArena::Slice& s) { return s.name == name; });
      REQUIRE(slice != arena.slices().end());
      REQUIRE(slice->matrix);
      const auto rows = static_cast<size_t>(slice->parameter->shape[0]),
                 columns = static_cast<size_t>(slice->parameter->shape[1]);
      const auto read = [&](const Tensor& flat) {
        Matrix m(rows, std::vector<double>(columns));
        for (size_t i = 0; i < rows * columns; ++i)
          m[i / columns][i % columns] = static_cast<double>(flat.host<float>()[slice->begin + static_cast<int64_t>(i)]);
        return m;
      };
      Matrix w = read(arena.values()), momentum(rows, std::vector<double>(columns));
      Optimizer fresh(recipe, arena);
      for (int step = 1; step <= 2; ++step) {
        for (int64_t i = 0; i < arena.size(); ++i)
          arena.gradients().host<float>()[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i * step)));
        const Matrix g = sum(0.0, read(arena.gradients()), 0.5, read(arena.gradients()));  // clipped by a half
        momentum = sum(1.0 - kMomentum, g, kMomentum, momentum);
        const Matrix update = newton_schulz(sum(1.0 - kMomentum, g, kMomentum, momentum));
        const double a = static_cast<double>(rows), b = static_cast<double>(columns);
        const double factor = scale == OptimizerRecipe::Scale::spectral ? std::sqrt(std::max(1.0, a / b))
                                                                        : 0.2 * std::sqrt(std::max(a, b));
        w = sum(-kRate * factor, update, 1.0 - kRate * kDecay, w);
        fresh.step(step, kRate, 0.5);
        const Matrix got = read(arena.values());
        double worst = 0.0;
        for (size_t i = 0; i < rows; ++i)
          for (size_t j = 0; j < columns; ++j) worst = std::max(worst, std::abs(got[i][j] - w[i][j]));
        CHECK(worst < 1e-5);
        for (int64_t i = 0; i < arena.size(); ++i) REQUIRE(arena.gradients().host<float>()[i] == 0.0f);
      }
    }
  }
}

TEST_CASE("states of 8 bits: a byte an element and a scale a block, but for small tensors, norms and biases") {
  const LoadedModel loaded = trainable_golden("mpt");
  const ParameterArena arena(*loaded.model);
  OptimizerRecipe recipe;
  for (const auto name : {OptimizerRecipe::Name::adamw, OptimizerRecipe::Name::sgd, OptimizerRecipe::Name::muon}) {
    recipe.name = name;
    size_t coded = 0;  // what the equations ask for
    for (const ParameterArena::Slice& s : arena.slices()) {
      const bool second = name == OptimizerRecipe::Name::adamw || (name == OptimizerRecipe::Name::muon && !s.matrix);
      const auto moments = static_cast<size_t>(second ? 2 : 1);
      const auto elements = static_cast<size_t>(s.size), blocks = (elements + 255) / 256;
      const bool in_blocks = s.size >= 4096;
      if (in_blocks) CHECK((s.begin % 256 == 0 && s.room == static_cast<int64_t>(256 * blocks)));
      coded += moments * (in_blocks ? blocks * 260 : (elements + 15) / 16 * 16 * 4);
    }
    const auto bytes = [&](OptimizerRecipe::States states) {
      recipe.states = states;
      const Optimizer optimizer(recipe, arena);
      size_t sum = 0;
      for (const Optimizer::State& state : optimizer.states()) sum += state.values.bytes();
      return sum;
    };
    CHECK(bytes(OptimizerRecipe::States::int8) == coded);
    if (name == OptimizerRecipe::Name::adamw)
      CHECK(bytes(OptimizerRecipe::States::float32) == 8 * static_cast<size_t>(arena.size()));
  }
}
