// See gptq_awq.h. (Sources: AutoGPTQ, qlinear_cuda_old.py; AutoAWQ, packing_utils.py.)
//
// GPTQ: qweight (K/8, N) i32, eight columns of a row in a word; qzeros (K/G, N/8) i32, eight rows in a word, zeros less
// 1 in the first form; scales (K/G, N); g_idx (K), the group of each column. AWQ ("gemm"): qweight (K, N/8) i32, eight
// rows in a word in the order 0 2 4 6 1 3 5 7; qzeros (K/G, N/8) likewise.
#include "load_model/gptq_awq.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "config/model_config.h"
#include "formats/quote.h"
#include "tensor/errors.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

constexpr int64_t kBlock = 32;  // columns of a block of q4_0 and q4_1

uint32_t word_at(const uint8_t* words, int64_t index) {
  uint32_t word;
  std::memcpy(&word, words + index * 4, 4);
  return word;
}

// One matrix: (N, K) values in groups of G columns.
struct PackedMatrixSource {
  StoredTensor qweight, qzeros, scales;
  int64_t rows = 0, columns = 0, group = 0;
  bool awq = false;
  uint32_t zero_offset = 0;  // what the stored zeros lack

  static int nibble_of_row(int64_t row) { return static_cast<int>(row % 8 / 2 + row % 2 * 4); }  // AWQ's order
  uint32_t quant(int64_t row, int64_t column) const {
    if (awq) return word_at(qweight.data, column * (rows / 8) + row / 8) >> (4 * nibble_of_row(row)) & 15u;
    return word_at(qweight.data, column / 8 * rows + row) >> (4 * (column % 8)) & 15u;
  }
  uint32_t zero(int64_t row, int64_t group_number) const {
    const int nibble = awq ? nibble_of_row(row) : static_cast<int>(row % 8);
    return (word_at(qzeros.data, group_number * (rows / 8) + row / 8) >> (4 * nibble) & 15u) + zero_offset;
  }
  uint16_t scale(int64_t row, int64_t group_number) const {
    uint16_t bits;
    std::memcpy(&bits, scales.data + (group_number * rows + row) * 2, 2);
    return *scales.dtype == DType::f16 ? bits : f32_to_f16(bf16_to_f32(bits));
  }
  bool symmetric() const {
    for (int64_t g = 0; g < columns / group; ++g)
      for (int64_t row = 0; row < rows; ++row)
        if (zero(row, g) != 8) return false;
    return true;
  }
};

bool finite_f16(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

// The block of columns [32 block, 32 block + 32) of a row; false where f16 does not hold its scale or its minimum.
bool write_block(const PackedMatrixSource& m, DType dtype, int64_t row, int64_t block, uint8_t* out) {
  const int64_t first = block * kBlock, group_number = first / m.group;
  const uint16_t scale = m.scale(row, group_number);
  bool held = finite_f16(scale);
  std::memcpy(out, &scale, 2);
  out += 2;
  if (dtype == DType::q4_1) {
    const uint16_t least = f32_to_f16(-f16_to_f32(scale) * static_cast<float>(m.zero(row, group_number)));
    held &= finite_f16(least);
    std::memcpy(out, &least, 2);
    out += 2;
  }
  for (int64_t i = 0; i < kBlock / 2; ++i)
    out[i] = static_cast<uint8_t>(m.quant(row, first + i) | m.quant(row, first + kBlock / 2 + i) << 4);
  return held;
}

// Sixteen rows at a time: their words are neighbours in GPTQ's layout. False where a block is out of range.
bool fill(const PackedMatrixSource& m, DType dtype, uint8_t* out) {
  constexpr int64_t kRows = 16;
  const int64_t blocks = m.columns / kBlock;
  const auto block_bytes = static_cast<int64_t>(info(dtype).block_bytes);
  std::atomic<bool> held = true;
  parallel_for((m.rows + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk)
      for (int64_t block = 0; block < blocks; ++block)
        for (int64_t row = chunk * kRows; row < std::min(m.rows, (chunk + 1) * kRows); ++row)
          if (!write_block(m, dtype, row, block, out + (row * blocks + block) * block_bytes)) held = false;
  });
  return held;
}

using Shape2 = std::vector<int64_t>;

class Unpacker {
 public:
  Unpacker(Checkpoint& checkpoint, const nlohmann::json& settings) : checkpoint_(checkpoint) {
    awq_ = settings.at("quant_method") == "awq";
    group_ = settings.value("group_size", int64_t{-1});
    zero_offset_ = awq_ || settings.value("checkpoint_format", std::string("gptq")) == "gptq_v2" ? 0 : 1;
    for (StoredTensor& tensor : checkpoint.tensors) by_name_.emplace(tensor.name, &tensor);
  }

  void run() {
    std::vector<StoredTensor> tensors;
    for (const StoredTensor& tensor : checkpoint_.tensors) {
      if (part_of_packed(tensor.name)) continue;
      if (const auto name = packed_name(tensor.name))
        tensors.push_back(unpack(*name));
      else
        tensors.push_back(tensor);
    }
    checkpoint_.tensors = std::move(tensors);
  }

 private:
  static std::optional<std::string> packed_name(const std::string& name) {
    constexpr std::string_view kEnding = ".qweight";
    if (!name.ends_with(kEnding)) return std::nullopt;
    return name.substr(0, name.size() - kEnding.size());
  }
  // What goes into another tensor's `weight`.
  bool part_of_packed(const std::string& name) const {
    for (const std::string_view ending : {".qzeros", ".scales", ".g_idx"})
      if (name.ends_with(ending)) return by_name_.contains(name.substr(0, name.size() - ending.size()) + ".qweight");
    return false;
  }
  const StoredTensor& part(const std::string& name) const {
    const auto found = by_name_.find(name);
    check(found != by_name_.end(), "load", "{}: {} is missing beside its .qweight", checkpoint_.path, quote(name));
    return *found->second;
  }
  void require_shape(const StoredTensor& tensor, const Shape2& shape) const {
    check(tensor.shape == shape, "load", "{}: {} is ({}), expected ({})", checkpoint_.path, quote(tensor.name),
          fmt::join(tensor.shape, ", "), fmt::join(shape, ", "));
  }
  void require_type(const StoredTensor& tensor, std::initializer_list<DType> types, const char* expected) const {
    check(tensor.dtype && std::find(types.begin(), types.end(), *tensor.dtype) != types.end(), "load",
          "{}: {} is {}, expected {}", checkpoint_.path, quote(tensor.name), tensor.type_name, expected);
  }

  PackedMatrixSource source(const std::string& name) const {
    PackedMatrixSource m;
    m.qweight = part(name + ".qweight");
    m.qzeros = part(name + ".qzeros");
    m.scales = part(name + ".scales");
    m.awq = awq_;
    m.zero_offset = zero_offset_;
    check(m.qweight.shape.size() == 2, "load", "{}: {} has {} dimensions, expected 2", checkpoint_.path,
          quote(m.qweight.name), m.qweight.shape.size());
    m.columns = m.qweight.shape[0] * (awq_ ? 1 : 8);
    m.rows = m.qweight.shape[1] * (awq_ ? 8 : 1);
    m.group = group_ < 0 ? m.columns : group_;
    check(m.group > 0 && m.group % kBlock == 0 && m.columns % m.group == 0 && m.rows % 8 == 0, "load",
          "{}: {} has {} rows and {} columns in groups of {}, expected groups of a multiple of 32", checkpoint_.path,
          quote(name), m.rows, m.columns, m.group);
    const int64_t groups = m.columns / m.group;
    require_shape(m.qzeros, {groups, m.rows / 8});
    require_shape(m.scales, {groups, m.rows});
    require_type(m.qweight, {DType::i32}, "I32");
    require_type(m.qzeros, {DType::i32}, "I32");
    require_type(m.scales, {DType::f16, DType::bf16}, "F16 or BF16");
    check_order(name, m);
    return m;
  }
  // With `desc_act` GPTQ takes the columns in the order of their activations; a block would then have columns of
  // several groups.
  void check_order(const std::string& name, const PackedMatrixSource& m) const {
    const auto found = by_name_.find(name + ".g_idx");
    if (found == by_name_.end()) return;
    const StoredTensor& order = *found->second;
    require_shape(order, {m.columns});
    require_type(order, {DType::i32}, "I32");
    for (int64_t k = 0; k < m.columns; ++k)
      if (word_at(order.data, k) != static_cast<uint32_t>(k / m.group))
        throw Error(fmt::format("load: {}: {} puts column {} into group {}, expected {}: columns ordered by activation "
                                "(desc_act) are not read",
                                checkpoint_.path, quote(order.name), k, word_at(order.data, k), k / m.group),
                    "use a checkpoint that was quantised with desc_act false, AWQ, or a GGUF file");
  }

  StoredTensor unpack(const std::string& name) {
    const PackedMatrixSource m = source(name);
    StoredTensor weight;
    weight.name = name + ".weight";
    weight.dtype = m.symmetric() ? DType::q4_0 : DType::q4_1;
    weight.type_name = *weight.dtype == DType::q4_0 ? "Q4_0" : "Q4_1";
    weight.shape = {m.rows, m.columns};
    weight.bytes = bytes_of(*weight.dtype, m.rows * m.columns);
    const auto [memory, begin] = MappedFile::scratch(checkpoint_.path, weight.bytes);
    weight.file = memory;
    weight.data = begin;
    checkpoint_.unpacking.push_back([m, name = weight.name, dtype = *weight.dtype, out = begin, keep = memory] {
      check(fill(m, dtype, out), "load",
            "{}: {}: a scale, or a scale times its zero, is beyond the range of f16, which {} has", keep->path(),
            quote(name), lathe::name(dtype));
    });
    return weight;
  }

  Checkpoint& checkpoint_;
  bool awq_ = false;
  int64_t group_ = -1;
  uint32_t zero_offset_ = 0;
  std::unordered_map<std::string, const StoredTensor*> by_name_;
};

}  // namespace

void unpack_gptq_awq(Checkpoint& checkpoint) {
  const auto settings = checkpoint.config->extra.find("quantization_config");
  if (settings == checkpoint.config->extra.end()) return;
  Unpacker(checkpoint, nlohmann::json::parse(settings->second)).run();
}

}  // namespace lathe
