// Shapes, views, copies and the pool behind them.
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

#include "tensor/storage.h"
#include "tensor/tensor.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

// 0, 1, 2, ...
Tensor counting(Shape shape) {
  Tensor t = Tensor::empty(shape);
  std::iota(t.data<float>(), t.data<float>() + t.elements(), 0.0f);
  return t;
}

bool pool_keeps_blocks() {
  { const Tensor dropped = Tensor::empty({1000}); }
  return StoragePool::kept_bytes() > 0;
}

}  // namespace

TEST_CASE("shapes count, compare and print") {
  CHECK(to_string(Shape{37, 64}) == "(37, 64)");
  CHECK(to_string(Shape{5}) == "(5,)");
  CHECK(to_string(Shape{}) == "()");
  CHECK(Shape{}.elements() == 1);
  CHECK(Shape{3, 0, 2}.elements() == 0);
  CHECK(Shape{2, 3, 4}[-1] == 4);
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
}

TEST_CASE("shapes refuse what cannot be") {
  CHECK_THROWS_AS((Shape{1, 2, 3, 4, 5}), Error);
  CHECK_THROWS_AS((Shape{2, -1}), Error);
  const int64_t large = int64_t{1} << 40;
  CHECK_THROWS_WITH((Shape{large, large}), ContainsSubstring("overflows"));
  CHECK_THROWS_WITH(Tensor::empty({int64_t{1} << 61}, DType::f32), ContainsSubstring("more than memory can hold"));
  CHECK_THROWS_WITH(Tensor::empty({1, 33}, DType::q8_0), ContainsSubstring("33"));
  CHECK_THROWS_WITH(Tensor::empty({}, DType::q4_0), ContainsSubstring("block"));
  CHECK_THROWS_WITH(Tensor::empty({2}, DType::f32, {Device::Kind::cuda, 0}), ContainsSubstring("CUDA"));
  // A tensor of no elements may have any other dimension: nothing overflows.
  CHECK(Tensor::empty({0, large, large}).contiguous());
}

TEST_CASE("memory is aligned, sized by dtype, and wrapped memory is kept alive") {
  for (const int64_t n : {0, 1, 63, 1000}) {
    const Tensor t = Tensor::zeros({n}, DType::f64);
    CHECK(t.defined());
    CHECK(reinterpret_cast<uintptr_t>(t.raw()) % 64 == 0);
    CHECK(t.bytes() == static_cast<size_t>(n) * 8);
  }
  CHECK(Tensor::empty({2, 64}, DType::q4_1).bytes() == 2 * 2 * 20);
  auto owner = std::make_shared<std::vector<float>>(6, 1.5f);
  Tensor t = Tensor::wrap(owner->data(), {2, 3}, DType::f32, owner);
  CHECK(owner.use_count() == 2);
  CHECK(t.data<float>()[5] == 1.5f);
  t = {};
  CHECK(owner.use_count() == 1);
}

TEST_CASE("data asks for the tensor's own type") {
  const Tensor t = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(t.data<double>(), ContainsSubstring("asked for f64 elements of (2, 3) f32 cpu"));
  CHECK(Tensor{}.describe() == "undefined");
}

TEST_CASE("views of strided tensors keep the leading dimension") {
  const Tensor t = counting({3, 8});
  const Tensor columns = t.column_range(2, 6);
  CHECK(columns.shape() == Shape{3, 4});
  CHECK(columns.stride() == 8);
  CHECK_FALSE(columns.contiguous());
  const Tensor heads = columns.view({3, 2, 2});
  CHECK(heads.stride() == 8);
  CHECK(heads.raw() == columns.raw());
  CHECK_THROWS_WITH(columns.view({12}), ContainsSubstring("leading dimension must stay"));
  CHECK_THROWS_AS(columns.view({4, 3}), Error);
  CHECK_THROWS_WITH(t.view({5, 5}), ContainsSubstring("24 elements"));
  CHECK(t.view({4, 6}).stride() == 6);
  // One row is contiguous whatever its stride, so a decoded token's slices are.
  const Tensor row = t.row_range(1, 2).column_range(2, 6);
  CHECK(row.contiguous());
  CHECK(row.view({2, 2}).stride() == 2);
  CHECK(row.data<float>()[0] == 10.0f);
}

TEST_CASE("ranges are checked and drop the tape id, views keep it") {
  Tensor t = counting({3, 8});
  t.tape_id = 5;
  CHECK(t.view({24}).tape_id == 5);
  CHECK(t.row_range(0, 2).tape_id == 0);
  CHECK(t.column_range(0, 2).tape_id == 0);
  CHECK(t.clone().tape_id == 0);
  CHECK(t.without_elements().tape_id == 5);
  CHECK_FALSE(t.without_elements().defined());
  CHECK_THROWS_AS(t.row_range(2, 4), Error);
  CHECK_THROWS_AS(t.row_range(2, 1), Error);
  CHECK_THROWS_AS(t.column_range(-1, 4), Error);
  CHECK(t.row_range(3, 3).elements() == 0);
  const Tensor blocks = Tensor::zeros({2, 64}, DType::q8_0);
  CHECK(static_cast<char*>(blocks.column_range(32, 64).raw()) - static_cast<char*>(blocks.raw()) == 34);
  CHECK_THROWS_WITH(blocks.column_range(16, 48), ContainsSubstring("32-element blocks"));
}

TEST_CASE("clone gathers strided rows") {
  const Tensor copy = counting({3, 8}).column_range(2, 5).clone();
  CHECK(copy.contiguous());
  const std::vector<float> expected{2, 3, 4, 10, 11, 12, 18, 19, 20};
  CHECK(std::vector<float>(copy.data<float>(), copy.data<float>() + 9) == expected);
}

TEST_CASE("the pool gives blocks back to the next tensor of the size, within its bounds") {
  StoragePool::trim();
  CHECK(StoragePool::kept_bytes() == 0);
  if (!pool_keeps_blocks()) return skip("the address sanitizer's build keeps no blocks");
  const void* before = Tensor::empty({1001}).raw();
  CHECK(Tensor::empty({1000}).raw() == before);
  const size_t kept = StoragePool::kept_bytes();
  CHECK((kept >= 4000 && kept <= 4000 * 9 / 8 + 128));
  StoragePool::set_limit(1 << 20);
  { const Tensor large = Tensor::empty({1 << 17}); }  // 512 KiB: more than a quarter of the limit
  CHECK(StoragePool::kept_bytes() == kept);
  {
    std::vector<Tensor> many;
    for (int i = 0; i < 64; ++i) many.push_back(Tensor::empty({1 << 13}));  // 2 MiB together
  }
  CHECK(StoragePool::kept_bytes() <= size_t{1} << 20);
  StoragePool::set_limit(StoragePool::kDefaultLimit);
  StoragePool::trim();
  const size_t held = StoragePool::held_bytes();
  const auto one_more = [&] { return StoragePool::held_bytes() - held >= size_t{4} << 13; };
  CHECK([&] { return Tensor::empty({1 << 13}), one_more(); }());
  CHECK(one_more());  // it is kept now
  StoragePool::trim();
  CHECK(StoragePool::held_bytes() == held);
  CHECK(StoragePool::kept_bytes() == 0);
}

TEST_CASE("beyond its budget the pool gives kept blocks back before it asks for another") {
  StoragePool::trim();
  if (!pool_keeps_blocks()) return skip("the address sanitizer's build keeps no blocks");
  constexpr int64_t kMiB = 1 << 18;  // elements
  { const Tensor first = Tensor::empty({8 * kMiB}), second = Tensor::empty({3 * kMiB}); }
  const size_t kept = StoragePool::kept_bytes();
  CHECK(kept >= size_t{11} << 20);
  StoragePool::set_budget(kept + (size_t{1} << 20));
  { const Tensor same = Tensor::empty({8 * kMiB}); }  // a kept block serves it
  CHECK(StoragePool::kept_bytes() == kept);
  const Tensor other = Tensor::empty({5 * kMiB});  // the largest kept one makes room
  CHECK(StoragePool::kept_bytes() < size_t{4} << 20);
  CHECK(StoragePool::kept_bytes() >= size_t{3} << 20);
  StoragePool::set_budget(StoragePool::kNoLimit);
  StoragePool::trim();
}

TEST_CASE("tensors may be made and dropped on any thread") {
  std::vector<std::thread> threads;
  std::vector<Tensor> made(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&made, t] {
      for (int i = 0; i < 2000; ++i) {
        Tensor a = Tensor::empty({(i * 37) % 500 + 1});
        a.data<float>()[0] = static_cast<float>(t);
        if (a.data<float>()[0] == static_cast<float>(t)) made[static_cast<size_t>(t)] = a;
      }
    });
  for (auto& thread : threads) thread.join();
  for (int t = 0; t < 4; ++t) CHECK(made[static_cast<size_t>(t)].data<float>()[0] == static_cast<float>(t));
}
