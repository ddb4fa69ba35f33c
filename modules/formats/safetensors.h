// safetensors (specification: huggingface/safetensors README, "Format"): one file, or shards with an index.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "formats/outgoing_tensor.h"
#include "formats/stored_tensor.h"
#include "tensor/tensor.h"

namespace lathe {

// The tensors of one file, in the order of their data. Header length, JSON, dtypes, shapes and offsets are checked:
// inside the file, no overlap, no hole, bytes = product of shape x element size without overflow.
// Throws Error naming file and tensor. `metadata`, when given, receives "__metadata__".
std::vector<StoredTensor> read_safetensors(const std::string& path,
                                           std::map<std::string, std::string>* metadata = nullptr);

// The tensors of all shards that `index_path` (model.safetensors.index.json) lists; a shard that is missing, a tensor
// that its shard lacks, or one that appears twice is an Error by name.
std::vector<StoredTensor> read_sharded_safetensors(const std::string& index_path);

// Writes tensors (f32, f64, bf16, f16, i32) one after another under a temporary name and renames it when whole.
void write_safetensors(const std::string& path, std::vector<OutgoingTensor> tensors,
                       const std::map<std::string, std::string>& metadata);
// The same for tensors that are there, contiguous ones.
void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace lathe
