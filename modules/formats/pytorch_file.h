// pytorch_model.bin: what torch.save makes of a state_dict, as a zip archive (since torch 1.6) or in the form before
// it. The pickle inside is read as data (pickle.h); nothing is run.
#pragma once
#include <string>
#include <vector>

#include "formats/stored_tensor.h"

namespace lathe {

// The tensors of one file, in the order of the dictionary; their bytes stay in the mapped file. Types without
// arithmetic (I64, BOOL, ...) are kept by name, tensors may share a storage. Throws Error naming file and tensor for a
// global that is not allowed, a value that is no tensor, strides that are not those of a contiguous tensor, a storage
// or range outside the file, big-endian values.
std::vector<StoredTensor> read_pytorch_file(const std::string& path);

// The tensors of all shards that `index_path` (pytorch_model.bin.index.json) lists.
std::vector<StoredTensor> read_sharded_pytorch_file(const std::string& index_path);

}  // namespace lathe
