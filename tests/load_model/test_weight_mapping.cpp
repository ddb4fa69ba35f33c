// Names, rules, and that loading and writing back are each other's inverse.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "load_model/load_parameters.h"
#include "load_model/weight_mapping.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

using Named = std::vector<std::pair<std::string, Tensor>>;

// first, first + 1, ...
Tensor counting(Shape shape, float first = 0) {
  Tensor t = Tensor::empty(shape);
  std::iota(t.data<float>(), t.data<float>() + t.elements(), first);
  return t;
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

// A checkpoint in memory. Its tensors are views of `file`, which a test maps to have something to hold on to.
struct MemoryCheckpoint {
  TemporaryDirectory folder;
  std::shared_ptr<const MappedFile> file;
  Named tensors;
  std::vector<StoredTensor> stored;

  explicit MemoryCheckpoint(Named named) : tensors(std::move(named)) {
    std::string bytes;
    for (const auto& [name, t] : tensors)
      bytes += std::string(static_cast<const char*>(t.raw()), t.bytes()) + std::string(64, 0);
    const auto path = folder.path() / "data";
    write_file(path, bytes);
    file = MappedFile::open(path.string());
    size_t offset = 0;
    for (const auto& [name, t] : tensors) {
      StoredTensor s;
      s.name = name;
      s.dtype = t.dtype();
      s.type_name = std::string(lathe::name(t.dtype()));
      s.shape.assign(t.shape().begin(), t.shape().end());
      s.data = file->bytes().data() + offset;
      s.bytes = t.bytes();
      s.file = file;
      stored.push_back(s);
      offset += t.bytes() + 64;
    }
  }
};

struct Model {
  std::vector<std::pair<std::string, Parameter>> parameters;
  std::vector<NamedParameter> named() {
    std::vector<NamedParameter> list;
    for (auto& [name, parameter] : parameters) list.push_back({name, &parameter});
    return list;
  }
  Named values() const {
    Named list;
    for (const auto& [name, parameter] : parameters) list.emplace_back(name, parameter.value);
    return list;
  }
};

// Loads, writes back, and compares with what was loaded.
void check_round_trip(const MemoryCheckpoint& checkpoint, Model& model, const WeightMapping& mapping) {
  load_parameters(model.named(), checkpoint.stored, mapping, "test");
  const Named back = to_checkpoint(model.values(), mapping);
  REQUIRE(back.size() == checkpoint.tensors.size());
  for (const auto& expected : checkpoint.tensors) {
    INFO(expected.first);
    const auto found = std::find_if(back.begin(), back.end(), [&](const auto& b) { return b.first == expected.first; });
    REQUIRE(found != back.end());
    CHECK(equal(found->second, expected.second));
  }
}

constexpr auto kMatrix = Parameter::Kind::matrix;
constexpr auto kBias = Parameter::Kind::bias;

}  // namespace

TEST_CASE("names: braces stand for numbers") {
  std::vector<int64_t> numbers;
  CHECK(match_name("a.{}.b.{}", "a.12.b.0", &numbers));
  CHECK(numbers == std::vector<int64_t>{12, 0});
  CHECK(fill_name("x{}y{}", numbers) == "x12y0");
  CHECK(match_name("plain", "plain", &numbers));
  for (const char* other : {"a..b.0", "a.x.b.0", "a.1.b.0.c", "a.1.b.", "a.01.b.0", "a.1234567890.b.0", "a.-1.b.0", ""})
    CHECK_FALSE(match_name("a.{}.b.{}", other, &numbers));
  CHECK_THROWS_WITH(fill_name("x{}y{}", {1}), ContainsSubstring("takes more than 1 numbers"));
}

TEST_CASE("names: skipped ones may have a star at either end") {
  WeightMapping m;
  m.skip("h.{}.attn.bias").skip("*.inv_freq").skip("vision.*");
  CHECK(m.skips("h.3.attn.bias"));
  CHECK(m.skips("model.layers.0.rotary_emb.inv_freq"));
  CHECK(m.skips("vision.anything"));
  CHECK_FALSE(m.skips("h.x.attn.bias"));
  CHECK_FALSE(m.skips("inv_freq"));
  CHECK_FALSE(m.skips("model.vision.x"));
}

TEST_CASE("mapping: what no rule names keeps its name and stays in the file") {
  const MemoryCheckpoint checkpoint({{"w", counting({4, 3})}, {"b", counting({4}, 50)}});
  Model model{{{"w", {kMatrix, {4, 3}}}, {"b", {kBias, {4}}}}};
  check_round_trip(checkpoint, model, {});
  CHECK(model.parameters[0].second.value.raw() == checkpoint.stored[0].data);
}

TEST_CASE("mapping: rename, split and stack") {
  const MemoryCheckpoint checkpoint({{"h.0.qkv", counting({6, 2})},
                                     {"h.1.qkv", counting({6, 2}, 100)},
                                     {"h.0.qkv_bias", counting({6}, 200)},
                                     {"h.1.qkv_bias", counting({6}, 300)},
                                     {"e.0", counting({2, 3}, 400)},
                                     {"e.1", counting({2, 3}, 500)},
                                     {"table", counting({3, 2}, 600)}});
  WeightMapping m;
  m.split("h.{}.qkv", {"l.{}.q", "l.{}.k", "l.{}.v"}).split("h.{}.qkv_bias", {"l.{}.qb", "l.{}.kb", "l.{}.vb"});
  m.rename("table", "embedding");
  m.rules.push_back({.sources = {"e.0", "e.1"}, .targets = {"experts"}, .source_row = nullptr});
  Model model;
  for (const std::string l : {"l.0.", "l.1."}) {
    model.parameters.push_back({l + "q", {kMatrix, {3, 2}}});
    model.parameters.push_back({l + "k", {kMatrix, {2, 2}}});
    model.parameters.push_back({l + "v", {kMatrix, {1, 2}}});
    model.parameters.push_back({l + "qb", {kBias, {3}}});
    model.parameters.push_back({l + "kb", {kBias, {2}}});
    model.parameters.push_back({l + "vb", {kBias, {1}}});
  }
  model.parameters.push_back({"embedding", {Parameter::Kind::embedding, {3, 2}}});
  model.parameters.push_back({"experts", {kMatrix, {2, 2, 3}}});
  check_round_trip(checkpoint, model, m);
  CHECK(model.parameters[1].second.value.data<float>()[0] == 6.0f);     // l.0.k begins at row 3
  CHECK(model.parameters[11].second.value.data<float>()[0] == 305.0f);  // l.1.vb is element 5
  CHECK(model.parameters[13].second.value.data<float>()[6] == 500.0f);  // the second expert
}

TEST_CASE("mapping: stacked experts, side by side in one tensor") {
  const MemoryCheckpoint checkpoint({{"l.0.gate_up", counting({2, 4, 3})}, {"l.0.down", counting({2, 3, 2}, 100)}});
  WeightMapping m;
  m.split("l.{}.gate_up", {"l.{}.0.gate", "l.{}.0.up", "l.{}.1.gate", "l.{}.1.up"}).stacked(2);
  m.split("l.{}.down", {"l.{}.0.down", "l.{}.1.down"}).stacked(2);
  Model model;
  for (const std::string e : {"l.0.0.", "l.0.1."}) {
    model.parameters.push_back({e + "gate", {kMatrix, {2, 3}}});
    model.parameters.push_back({e + "up", {kMatrix, {2, 3}}});
    model.parameters.push_back({e + "down", {kMatrix, {3, 2}}});
  }
  check_round_trip(checkpoint, model, m);
  CHECK(model.parameters[1].second.value.data<float>()[0] == 6.0f);    // the third row of the first expert
  CHECK(model.parameters[3].second.value.data<float>()[0] == 12.0f);   // the second expert
  CHECK(model.parameters[5].second.value.data<float>()[0] == 106.0f);  //
  CHECK(model.parameters[3].second.value.raw() == checkpoint.stored[0].data + 12 * sizeof(float));  // not copied

  const MemoryCheckpoint flat({{"l.0.gate_up", counting({8, 3})}, {"l.0.down", counting({2, 3, 2})}});
  CHECK_THROWS_WITH(load_parameters(model.named(), flat.stored, m, "test"),
                    ContainsSubstring("'l.0.gate_up' is (8, 3), expected (2, 4, 3)"));
}

TEST_CASE("mapping: another published form is read where the file has it, and never written otherwise") {
  WeightMapping m;
  m.split("l.{}.fused", {"l.{}.a", "l.{}.b"}).alternative();
  m.rename("l.{}.first", "l.{}.a");
  CHECK(m.rule_for("l.0.a")->rule->sources[0] == "l.{}.first");
  CHECK_FALSE(m.rule_for("l.0.b"));
  const MemoryCheckpoint parts({{"l.0.first", counting({2, 2})}, {"l.0.b", counting({2, 2}, 10)}});
  const MemoryCheckpoint fused({{"l.0.fused", counting({4, 2})}});
  for (const MemoryCheckpoint* checkpoint : {&parts, &fused}) {
    WeightMapping chosen = m;
    chosen.choose_alternatives(checkpoint->stored);
    CHECK(chosen.rules.size() == (checkpoint == &fused ? 2 : 1));
    Model model{{{"l.0.a", {kMatrix, {2, 2}}}, {"l.0.b", {kMatrix, {2, 2}}}}};
    check_round_trip(*checkpoint, model, chosen);
  }
}

TEST_CASE("mapping: transposed, alone and split") {
  const MemoryCheckpoint checkpoint({{"fc", counting({3, 40})}, {"qkv", counting({2, 6}, 1000)}});
  WeightMapping m;
  m.rename("fc", "up").transposed().split("qkv", {"q", "k", "v"}).transposed();
  Model model{
      {{"up", {kMatrix, {40, 3}}}, {"q", {kMatrix, {3, 2}}}, {"k", {kMatrix, {2, 2}}}, {"v", {kMatrix, {1, 2}}}}};
  check_round_trip(checkpoint, model, m);
  const float* up = model.parameters[0].second.value.data<float>();
  CHECK(up[0] == 0.0f);
  CHECK(up[1] == 40.0f);  // row 0 of the model is column 0 of the file
  CHECK(up[3] == 1.0f);
  const float* k = model.parameters[2].second.value.data<float>();
  CHECK(k[0] == 1003.0f);  // column 3
  CHECK(k[1] == 1009.0f);
}

TEST_CASE("mapping: rows of interleaved rope pairs, also quantised ones") {
  const auto rows = interleaved_rope_rows(4);
  std::vector<int64_t> order;
  for (int64_t r = 0; r < 8; ++r) order.push_back(rows(0, r));
  CHECK(order == std::vector<int64_t>{0, 2, 1, 3, 4, 6, 5, 7});

  Tensor quantised = Tensor::empty({8, 32}, DType::q8_0);
  for (int r = 0; r < 8; ++r) std::memset(static_cast<char*>(quantised.raw()) + 34 * r, 'a' + r, 34);
  const MemoryCheckpoint checkpoint({{"f", counting({8, 3})}, {"q", quantised}, {"b", counting({8}, 70)}});
  WeightMapping m;
  for (const char* name : {"f", "q", "b"}) m.rename(name, std::string("m.") + name).rows(rows);
  Model model{{{"m.f", {kMatrix, {8, 3}}}, {"m.q", {kMatrix, {8, 32}}}, {"m.b", {kBias, {8}}}}};
  check_round_trip(checkpoint, model, m);
  CHECK(model.parameters[0].second.value.data<float>()[3] == 6.0f);
  CHECK(static_cast<char*>(model.parameters[1].second.value.raw())[34] == 'c');
  CHECK(model.parameters[2].second.value.data<float>()[1] == 72.0f);
}

TEST_CASE("mapping: a tensor at an odd address is copied") {
  const MemoryCheckpoint checkpoint({{"x", Tensor::zeros({33, 2}, DType::bf16)}});
  StoredTensor odd = checkpoint.stored[0];
  odd.dtype = DType::f32;
  odd.shape = {8, 4};
  odd.data += 1;
  odd.bytes = 128;
  Model model{{{"x", {kMatrix, {8, 4}}}}};
  load_parameters(model.named(), {odd}, {}, "test");
  CHECK(model.parameters[0].second.value.raw() != odd.data);
  CHECK(reinterpret_cast<uintptr_t>(model.parameters[0].second.value.raw()) % 4 == 0);
}

TEST_CASE("load: every missing, unexpected, misshapen and unsupported tensor is in one message") {
  MemoryCheckpoint checkpoint({{"layers.0.q_proj.weight", counting({4, 4})},
                               {"layers.0.k_porj.weight", counting({4, 4})},
                               {"layers.0.v_proj.weight", counting({4, 5})},
                               {"layers.0.fused", counting({7, 4})},
                               {"extra", counting({1})},
                               {"mask", counting({1})},
                               {"norm", Tensor::zeros({32}, DType::q8_0)},
                               {"odd", counting({4, 4})}});
  checkpoint.stored.back().dtype = std::nullopt;
  checkpoint.stored.back().type_name = "IQ4_XS";
  WeightMapping m;
  m.skip("mask").split("layers.{}.fused", {"layers.{}.a", "layers.{}.b"}).rename("file.head", "head");
  Model model{{{"layers.0.q_proj.weight", {kMatrix, {4, 4}}},
               {"layers.0.k_proj.weight", {kMatrix, {4, 4}}},
               {"layers.0.v_proj.weight", {kMatrix, {4, 4}}},
               {"layers.0.a", {kMatrix, {4, 4}}},
               {"layers.0.b", {kMatrix, {4, 4}}},
               {"norm", {Parameter::Kind::norm, {32}}},
               {"odd", {kMatrix, {4, 4}}},
               {"head", {kMatrix, {4, 4}}}}};
  std::string message;
  try {
    load_parameters(model.named(), checkpoint.stored, m, "model.gguf");
  } catch (const Error& e) {
    message = e.what();
  }
  CHECK_THAT(message, ContainsSubstring("load: model.gguf: tensors do not fit the configuration"));
  CHECK_THAT(message, ContainsSubstring(
                          "2 missing: 'layers.0.k_proj.weight' (the file has 'layers.0.k_porj.weight'), 'file.head'"));
  CHECK_THAT(message, ContainsSubstring("2 unexpected: 'layers.0.k_porj.weight', 'extra'"));
  CHECK_THAT(message, ContainsSubstring("2 of another shape: 'layers.0.v_proj.weight' is (4, 5), expected (4, 4), "
                                        "'layers.0.fused' is (7, 4), expected (8, 4)"));
  CHECK_THAT(message,
             ContainsSubstring(
                 "2 of a type that is not supported: 'norm' is q8_0, expected f32, f16 or bf16, 'odd' is IQ4_XS"));
  CHECK(message.find('\n') == message.npos);
  for (const auto& named : model.parameters) CHECK_FALSE(named.second.value.defined());  // nothing is half loaded
}

TEST_CASE("load: each parameter is handed over as soon as it is set") {
  const MemoryCheckpoint checkpoint({{"a", counting({64, 64})}, {"b", counting({64, 64}, 7)}});
  Model model{{{"a", {kMatrix, {64, 64}}}, {"b", {kMatrix, {64, 64}}}}};
  std::vector<float> first;
  load_parameters(model.named(), checkpoint.stored, {}, "test", [&](const NamedParameter& named) {
    Tensor& value = named.parameter->value;
    first.push_back(value.data<float>()[0]);
    value = value.clone();  // so that the pages behind it can go
  });
  CHECK(first == std::vector<float>{0, 7});
  CHECK(equal(model.parameters[1].second.value, checkpoint.tensors[1].second));
}

TEST_CASE("to_checkpoint: a part alone cannot be written") {
  WeightMapping m;
  m.split("qkv", {"q", "k", "v"});
  CHECK_THROWS_WITH(to_checkpoint({{"q", counting({2, 2})}, {"k", counting({2, 2})}}, m),
                    ContainsSubstring("v is missing"));
}
