#include "attention/rope_table.h"

#include <algorithm>

#include "config/model_config.h"

namespace lathe {

RopeTable::RopeTable(RopeFrequencies f, int64_t positions, DType dtype, Device device) : frequencies(std::move(f)) {
  const Shape shape{positions, std::ssize(frequencies.inverse)};
  for (int kinds = frequencies.local.empty() ? 1 : 2; kinds > 0; --kinds)
    angles_.push_back(
        {Tensor::empty(shape, dtype, device), Tensor::empty(shape, dtype, device), {}, frequencies.style});
}

const std::vector<RopeAngles>& RopeTable::reach(int64_t end) {
  constexpr int64_t kBlock = 64;  // positions at a time
  const int64_t positions = angles_.front().cos.dim(0);
  check(end <= positions, "rope", "a text of {} tokens, the table has {} positions", end, positions);
  if (end <= filled_) return angles_;
  end = std::min(positions, (end + kBlock - 1) / kBlock * kBlock);
  fill(filled_, end);
  filled_ = end;
  return angles_;
}

void RopeTable::fill(int64_t first, int64_t end) {
  const RopeFrequencies& f = frequencies;
  const int64_t alike = f.behind ? std::clamp(f.text_length, first, end) : end;  // have the frequencies of the text
  fill_rope_rows(angles_[0], f.inverse, f.attention_factor, first, alike);
  for (int64_t position = alike; position < end; ++position)
    fill_rope_rows(angles_[0], f.behind(position), f.attention_factor, position, position + 1);
  if (!f.local.empty()) fill_rope_rows(angles_[1], f.local, 1.0f, first, end);
}

std::shared_ptr<RopeTable> RopeTables::of(int64_t text_length) {
  RopeFrequencies frequencies = rope_frequencies(config_, text_length);
  if (frequencies.inverse.empty()) return nullptr;
  std::erase_if(tables_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<RopeTable>& table = tables_[frequencies.inverse];
  latest_ = table.lock();
  if (!latest_) {
    latest_ = std::make_shared<RopeTable>(std::move(frequencies), positions_, dtype_, device_);
    table = latest_;
  }
  return latest_;
}

}  // namespace lathe
