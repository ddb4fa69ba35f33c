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

size_t StorageForecast::block_bytes(size_t bytes) const {
  return on_cuda() ? device_block_bytes(bytes) : StoragePool::block_bytes(bytes);
}

StorageForecast::Block StorageForecast::take(size_t bytes) {
  if (on_cuda()) return take_on_cuda(block_bytes(bytes));
  Block block{bytes, 0};
  std::vector<Block>& list = free_[block_bytes(bytes)];
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

// As tensor/cuda.cpp does.
StorageForecast::Block StorageForecast::take_on_cuda(size_t bytes) {
  auto kept = free_.lower_bound(bytes);
  while (kept != free_.end() && kept->first <= largest_in_place_of(bytes) && kept->second.empty()) ++kept;
  if (kept != free_.end() && kept->first <= largest_in_place_of(bytes)) {
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
  else if (block_bytes(block.bytes) <= limit_ / 4)
    free_[block_bytes(block.bytes)].push_back(block);
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
