// Counting of the blocks that the pool would hand out.
#include "tensor/storage_forecast.h"

#include <algorithm>

#include "tensor/device_memory.h"

namespace lathe {

template <>
StorageForecast*& Active<StorageForecast>::slot() {
  static thread_local StorageForecast* forecast = nullptr;
  return forecast;
}

StorageForecast::Block StorageForecast::take(size_t bytes) {
  if (on_cuda()) return take_on_cuda(device_block_bytes(bytes));
  Block block{bytes, 0};
  std::vector<Block>& list = free_[StoragePool::block_bytes(bytes)];
  if (!list.empty()) {
    block.resident = list.back().resident;
    list.pop_back();
  }
  const size_t now = std::max(block.resident, StoragePool::resident_bytes(bytes, bytes));
  resident_ += now - block.resident;
  block.resident = now;
  peak_ = std::max(peak_, resident_);
  return block;
}

// As take() of tensor/cuda.cpp does: a free block of this size or a little larger, whole, else a new one.
StorageForecast::Block StorageForecast::take_on_cuda(size_t bytes) {
  const auto end = free_.upper_bound(records_ ? bytes : largest_in_place_of(bytes));
  const auto kept = std::find_if(free_.lower_bound(bytes), end, [](const auto& size) { return !size.second.empty(); });
  if (kept != end) {
    const Block block = kept->second.back();
    kept->second.pop_back();
    return block;
  }
  resident_ += bytes;
  peak_ = std::max(peak_, resident_);
  return {bytes, bytes};
}

void StorageForecast::give(const Block& block) {
  if (on_cuda())
    free_[block.resident].push_back(block);
  else if (const size_t size = StoragePool::block_bytes(block.bytes); size <= limit_ / 4)
    free_[size].push_back(block);
  else
    resident_ -= block.resident;
}

void StorageForecast::add_outside(size_t bytes) {
  resident_ += bytes;
  peak_ = std::max(peak_, resident_);
}

void StorageForecast::trim() {
  for (auto& [size, list] : free_) {
    for (const Block& block : list) resident_ -= block.resident;
    list.clear();
  }
}

Storage StorageForecast::allocate(size_t bytes) {
  alignas(64) static char nowhere[64];
  const Block block = take(bytes);
  return {std::shared_ptr<const void>(nowhere, [self = shared_from_this(), block](const void*) { self->give(block); }),
          nowhere};
}

}  // namespace lathe
