#include "llm/weight_reads.h"

#include "tensor/memory_bandwidth.h"

namespace lathe {

size_t decode_weight_bytes(CausalLM& model) {
  const Parameter* head = model.head().weight;
  double bytes = 0;
  for (const NamedParameter& named : named_parameters(model)) {
    const Parameter& p = *named.parameter;
    if (p.is_table() && &p != head) continue;
    if (p.packed)
      bytes += p.share * static_cast<double>(p.packed->storage.bytes());
    else if (p.value.defined())
      bytes += p.share * static_cast<double>(p.value.bytes());
  }
  return static_cast<size_t>(bytes);
}

double measure_weight_bandwidth(CausalLM& model, double seconds) {
  // A pass should end well within the time on the fastest machine that is likely.
  constexpr double kFastest = 16e9;
  std::vector<MemoryBlock> blocks;
  double bytes = 0;
  for (const NamedParameter& named : named_parameters(model)) {
    const auto& packed = named.parameter->packed;
    if (!packed || bytes > seconds * kFastest) continue;
    blocks.push_back({packed->matrix.data, packed->storage.bytes()});
    bytes += static_cast<double>(packed->storage.bytes());
  }
  return measure_read_bandwidth(blocks, seconds);
}

}  // namespace lathe
