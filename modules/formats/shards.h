// The index of a checkpoint in several files: {"metadata": ..., "weight_map": {tensor: file}}, as Hugging Face writes
// it for safetensors and for pytorch_model.bin.
#pragma once
#include <string>
#include <vector>

#include "formats/stored_tensor.h"

namespace lathe {

// The tensors of all shards that `index_path` lists, each read by `read`. Throws Error by name for a shard that is
// missing or is no plain file name, a tensor that its shard lacks, or one that is in two shards.
std::vector<StoredTensor> read_shards(const std::string& index_path,
                                      std::vector<StoredTensor> (*read)(const std::string& path));

}  // namespace lathe
