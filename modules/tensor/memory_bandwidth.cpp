#include "tensor/memory_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "tensor/threads.h"

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPieceBytes = size_t{1} << 18;  // what a member takes at a time

std::vector<MemoryBlock> pieces_of(std::span<const MemoryBlock> blocks) {
  std::vector<MemoryBlock> pieces;
  for (const MemoryBlock& block : blocks)
    for (size_t begin = 0; begin < block.bytes; begin += kPieceBytes)
      pieces.push_back({static_cast<const char*>(block.data) + begin, std::min(kPieceBytes, block.bytes - begin)});
  return pieces;
}

// Every word of a piece; what is returned keeps the reads from being optimised away.
uint64_t read(const MemoryBlock& piece) {
  const auto* words = static_cast<const uint64_t*>(piece.data);
  const size_t count = piece.bytes / sizeof(uint64_t);
  uint64_t lanes[16] = {}, all = 0;
  for (size_t i = 0; i + 16 <= count; i += 16)
    for (size_t lane = 0; lane < 16; ++lane) lanes[lane] |= words[i + lane];
  for (const uint64_t lane : lanes) all |= lane;
  return all;
}

}  // namespace

double measure_read_bandwidth(std::span<const MemoryBlock> blocks, double seconds) {
  const std::vector<MemoryBlock> pieces = pieces_of(blocks);
  if (pieces.empty()) return 0;
  double bytes = 0, best = 0;
  for (const MemoryBlock& piece : pieces) bytes += static_cast<double>(piece.bytes);
  std::atomic<uint64_t> all{0};
  const auto begin = Clock::now();
  for (auto start = begin; best == 0 || start - begin < std::chrono::duration<double>(seconds);) {
    parallel(std::ssize(pieces),
             [&](int64_t i) { all.fetch_or(read(pieces[static_cast<size_t>(i)]), std::memory_order_relaxed); });
    const auto now = Clock::now();
    best = std::max(best, bytes / std::max(1e-9, std::chrono::duration<double>(now - start).count()));
    start = now;
  }
  return best;
}

double measure_read_bandwidth() {
  constexpr int64_t kWords = int64_t{1} << 25;
  const auto block = std::make_unique_for_overwrite<uint64_t[]>(kWords);
  // Written by all members, so that the pages lie near those that will read them.
  parallel_for(kWords, 4096, [&](int64_t begin, int64_t end) { std::fill(&block[begin], &block[end], uint64_t{1}); });
  const MemoryBlock whole{block.get(), static_cast<size_t>(kWords) * sizeof(uint64_t)};
  return measure_read_bandwidth({&whole, 1}, 0.06);
}

}  // namespace lathe
