// cos and sin of a model's rotary angles by position, computed when a text first reaches a position and kept: a step
// of the model looks them up.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "attention/rope_frequencies.h"
#include "autograd/ops.h"

namespace lathe {

class RopeTable {
 public:
  // For texts of at most `positions` tokens; `dtype` is that of the activations. Memory is touched as positions are
  // reached.
  RopeTable(RopeFrequencies frequencies, int64_t positions, DType dtype = DType::f32, Device device = {});

  // Tables with the angles of positions [0, end) at least, one for each kind of rope in the model (one for most); their
  // `rows` are left to the batch. Throws Error when `end` is beyond the positions.
  const std::vector<RopeAngles>& reach(int64_t end);

  const RopeFrequencies frequencies;

 private:
  void fill(int64_t first, int64_t end);

  std::vector<RopeAngles> angles_;  // cos, sin (P, R / 2)
  int64_t filled_ = 0;
};

// A model's tables: texts with the same frequencies share one, which lives while one of them does.
class RopeTables {
 public:
  RopeTables(const ModelConfig& config, int64_t positions, DType dtype = DType::f32, Device device = {})
      : config_(config), positions_(positions), dtype_(dtype), device_(device) {}

  // Of a text of so many tokens, on which some scalings depend (rope_frequencies). Null for a model without rope.
  std::shared_ptr<RopeTable> of(int64_t text_length);

 private:
  const ModelConfig& config_;
  int64_t positions_;
  DType dtype_;
  Device device_;
  std::map<std::vector<float>, std::weak_ptr<RopeTable>> tables_;  // by frequencies
  std::shared_ptr<RopeTable> latest_;                              // most models have one, which outlives its texts
};

}  // namespace lathe
