// What a run needs to go on: weights, the optimizer's states, and where it stands. A folder a checkpoint,
//
//   step-00000500/weights.safetensors    the trained tensors by name, f32
//                 optimizer.safetensors  the optimizer's states by state and name of the tensor,
//                                        "adamw.m/model.norm.weight", in its shape; those of 8 bits by block,
//                                        "adamw.m.codes/NAME" (blocks, 64) i32, "adamw.m.scales/NAME" (blocks)
//                 state.json             steps, updates, tokens, targets and seconds so far, and the key of the data
//
// which appears under its name only when it is whole and on the disk.
#pragma once
#include <optional>
#include <string>

#include "train/trainer.h"

namespace lathe {

struct RunState {
  int64_t steps = 0, updates = 0;   // of the trainer
  int64_t tokens = 0, targets = 0;  // seen so far
  double seconds = 0.0;             // that the run has taken
  std::string data_key;             // Dataset::key
};

// By all ranks together, of which the first writes. Into `folder`, of which the newest `keep` stay.
void save_checkpoint(const std::string& folder, const Trainer& trainer, const RunState& state, int64_t keep);
// The newest whole one, empty where there is none. What a killed run left half-written is removed.
std::optional<std::string> newest_checkpoint(const std::string& folder);
// Sets weights, counters and what this rank keeps of the states. Throws Error naming the file and the tensor that is
// missing, left over or of another shape, or where the data are others than those of the run.
RunState load_checkpoint(const std::string& checkpoint, Trainer& trainer, const std::string& data_key);

}  // namespace lathe
