// The storage pool without the storage: what the memory of the plan device is counted by.
//
// Tensors on Device::Kind::plan have shapes, dtypes and no elements; kernels do not run on them. Making and dropping
// them moves blocks of a forecast as it would move blocks of the pool (tensor/storage.h): by size class, the one given
// back last taken first, and resident from its first use on. A forecast may stand for a CUDA device's pool
// (tensor/cuda.h), whose blocks are resident whole, stay, and serve smaller requests too; layouts and scratch then have
// that device's sizes.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "tensor/active.h"
#include "tensor/storage.h"
#include "tensor/tensor.h"

namespace lathe {

class StorageForecast : public std::enable_shared_from_this<StorageForecast> {
 public:
  // Of a device's pool; of the CPU's with this limit (StoragePool::set_limit).
  static std::shared_ptr<StorageForecast> make(Device device = {}, size_t limit = StoragePool::kDefaultLimit) {
    return std::shared_ptr<StorageForecast>(new StorageForecast(device, limit));
  }
  // Whether the active forecast stands for a CUDA device's.
  static bool of_cuda() {
    const StorageForecast* active = Active<StorageForecast>::current();
    return active != nullptr && active->on_cuda();
  }

  // From now on as a stream that graphs are recorded on (tensor/stream.h): a block serves its own size alone.
  void record() { records_ = true; }

  struct Block {
    size_t bytes = 0, resident = 0;
  };
  Block take(size_t bytes);
  void give(const Block& block);
  // Bytes outside the pool that come and go with it.
  void add_outside(size_t bytes);
  void remove_outside(size_t bytes) { resident_ -= bytes; }
  // Everything that nobody uses goes back to the system.
  void trim();
  size_t resident() const { return resident_; }
  size_t peak() const { return peak_; }

  // A block that is taken now and given back with its last owner. The pointer must not be followed.
  Storage allocate(size_t bytes);

 private:
  StorageForecast(Device device, size_t limit) : device_(device), limit_(limit) {}
  bool on_cuda() const { return device_.kind == Device::Kind::cuda; }
  Block take_on_cuda(size_t bytes);
  Device device_;
  bool records_ = false;
  size_t limit_;
  std::map<size_t, std::vector<Block>> free_;  // by size class
  size_t resident_ = 0, peak_ = 0;
};

}  // namespace lathe
