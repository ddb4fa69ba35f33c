// See packing.h.
#include "train/packing.h"

#include <algorithm>

namespace lathe {

Packing pack(std::span<const int32_t> sizes, std::span<const int64_t> order, int64_t capacity, size_t open_rows) {
  struct Open {
    int64_t row, room;
  };
  std::vector<Open> open;
  std::vector<int64_t> row_of(order.size()), count;
  for (size_t i = 0; i < order.size(); ++i) {
    const int32_t size = sizes[static_cast<size_t>(order[i])];
    auto best = open.end();
    for (auto row = open.begin(); row != open.end(); ++row)
      if (row->room >= size && (best == open.end() || row->room < best->room)) best = row;
    if (best == open.end()) {
      if (open.size() == open_rows)
        open.erase(std::min_element(open.begin(), open.end(), [](Open a, Open b) { return a.room < b.room; }));
      best = open.insert(open.end(), {static_cast<int64_t>(count.size()), capacity});
      count.push_back(0);
    }
    best->room -= size;
    row_of[i] = best->row;
    ++count[static_cast<size_t>(best->row)];
  }
  Packing packing;
  packing.items.resize(order.size());
  packing.row_start.assign(count.size() + 1, 0);
  for (size_t row = 0; row < count.size(); ++row) packing.row_start[row + 1] = packing.row_start[row] + count[row];
  std::vector<int64_t> next(packing.row_start.begin(), packing.row_start.end() - 1);
  for (size_t i = 0; i < order.size(); ++i)
    packing.items[static_cast<size_t>(next[static_cast<size_t>(row_of[i])]++)] = order[i];
  return packing;
}

}  // namespace lathe
