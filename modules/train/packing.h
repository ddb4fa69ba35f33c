// Which documents share a row.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

struct Packing {
  std::vector<int64_t> items;      // row after row
  std::vector<int64_t> row_start;  // (rows + 1): where in `items` each begins
  int64_t rows() const { return static_cast<int64_t>(row_start.size()) - 1; }
};

// Items of these sizes, each from 1 to `capacity`, taken in the order of `order`: each goes into the fullest of the
// open rows that it fits into, or into a new one; of more than `open_rows` the fullest is closed. With one open row the
// order stays as it is. O(items * open_rows).
Packing pack(std::span<const int32_t> sizes, std::span<const int64_t> order, int64_t capacity, size_t open_rows);

}  // namespace lathe
