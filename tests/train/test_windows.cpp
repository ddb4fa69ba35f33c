// Windows of a stream of ids: which window a row is, what is counted, what is refused.
#include <algorithm>
#include <numeric>
#include <set>

#include "formats/npy.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/train/data_files.h"
#include "train/permutation.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Order = DataRecipe::Order;

namespace {

std::vector<int32_t> counting(int32_t size) {
  std::vector<int32_t> ids(static_cast<size_t>(size));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

using Ids = std::vector<int32_t>;

}  // namespace

TEST_CASE("permutation: of every size each element goes to one place, another one for another seed and epoch") {
  for (const int64_t size : {1, 2, 3, 7, 16, 17, 1000}) {
    std::set<int64_t> places;
    for (int64_t i = 0; i < size; ++i) places.insert(permuted(i, size, 5, 9));
    CHECK(std::ssize(places) == size);
    CHECK(*places.begin() == 0);
    CHECK(*places.rbegin() == size - 1);
  }
  const auto order = [](uint64_t seed, uint64_t epoch) {
    Ids places;
    for (int64_t i = 0; i < 1000; ++i) places.push_back(static_cast<int32_t>(permuted(i, 1000, seed, epoch)));
    return places;
  };
  CHECK(order(5, 9) == order(5, 9));
  CHECK(order(5, 9) != order(6, 9));
  CHECK(order(5, 9) != order(5, 10));
  CHECK(order(5, 9) != order(5, 9 + (uint64_t{1} << 32)));
  // A random permutation of n elements leaves 1 of them in its place on average, and 10 with a probability of 1e-7.
  const Ids places = order(1337, 0);
  int fixed = 0;
  for (int32_t i = 0; i < 1000; ++i) fixed += places[static_cast<size_t>(i)] == i;
  CHECK(fixed < 10);
}

TEST_CASE("windows: in order, row r is window r, wrapped round at the end of the data") {
  DataFolder data;
  data.recipe.order = Order::sequential;
  data.options.context = 4;
  data.train("ids.npy", npy(counting(15), "<i4"));  // (15 - 1) / 4 = 3 windows, two ids left over
  const TrainingData opened = data.open();
  CHECK(opened.tokenizer == nullptr);
  CHECK(opened.validation == nullptr);
  CHECK(opened.vocab_size == 15);
  CHECK(opened.train->rows_per_epoch() == 3);
  CHECK(opened.train->counts().tokens == 12);
  CHECK(opened.train->counts().targets == 12);
  CHECK(opened.train->counts().bytes == 0);

  const TrainingRows rows = opened.train->rows(2, 2);
  CHECK(rows.tokens == Ids{8, 9, 10, 11, 0, 1, 2, 3});
  CHECK(rows.targets == Ids{9, 10, 11, 12, 1, 2, 3, 4});
  CHECK(rows.seq_start == Ids{0, 4, 8});
  CHECK(rows.pieces == std::vector<int64_t>{2, 0});
  CHECK(rows.target_count == 8);
  CHECK(opened.train->rows(1000000000, 1).tokens == Ids{4, 5, 6, 7});  // 1e9 mod 3 is 1
}

TEST_CASE("windows: shuffled, each epoch has every window once, in another order") {
  DataFolder data;
  data.options.context = 4;
  data.train("ids.npy", npy(counting(401), "<i4"));
  const TrainingData opened = data.open();
  const auto epoch = [&](int64_t number) { return opened.train->rows(number * 100, 100).pieces; };
  std::vector<int64_t> all(100), first = epoch(0), second = epoch(1);
  std::iota(all.begin(), all.end(), 0);
  CHECK(first != all);
  CHECK(first != second);
  CHECK(opened.train->rows(150, 50).pieces == std::vector<int64_t>(second.begin() + 50, second.end()));
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  CHECK(first == all);
  CHECK(second == all);

  data.options.seed = 7;
  CHECK(data.open().train->rows(0, 100).pieces != opened.train->rows(0, 100).pieces);
  CHECK(data.open().train->key() != opened.train->key());
}

TEST_CASE("windows: ids of other widths, of several files and folders") {
  DataFolder data;
  data.recipe.order = Order::sequential;
  data.options.context = 3;
  data.write("folder/b.npy", npy(std::vector<uint16_t>{4, 65535}, "<u2"));
  data.write("folder/a/c.npy", npy(std::vector<int64_t>{2, 3}, "<i8"));
  data.write("folder/notes.csv", "1,2");
  data.train("first.npy", npy(std::vector<uint32_t>{0, 1}, "<u4"));
  data.recipe.train.push_back((data.folder.path() / "folder").string());
  const TrainingData opened = data.open();
  CHECK(opened.train->rows(0, 1).tokens == Ids{0, 1, 2});
  CHECK(opened.train->rows(0, 1).targets == Ids{1, 2, 3});
  CHECK(opened.vocab_size == 65536);
}

TEST_CASE("windows: a key tells other ids, contexts and orders apart") {
  DataFolder data;
  data.options.context = 4;
  data.train("ids.npy", npy(counting(41), "<i4"));
  const std::string key = data.open().train->key();
  CHECK(data.open().train->key() == key);
  const auto changed = [&](const auto& change) {
    DataRecipe recipe = data.recipe;
    DataOptions options = data.options;
    change(recipe, options);
    return open_data(recipe, options).train->key() != key;
  };
  CHECK(changed([](DataRecipe& recipe, DataOptions&) { recipe.order = Order::sequential; }));
  CHECK(changed([](DataRecipe& recipe, DataOptions&) { recipe.validation_share = 0.5; }));
  CHECK(changed([](DataRecipe&, DataOptions& options) { options.context = 5; }));
  std::vector<int32_t> ids = counting(41);
  ids[40] = 7;  // which is in no window but the last
  data.write("ids.npy", npy(ids, "<i4"));
  CHECK(data.open().train->key() != key);
}

TEST_CASE("windows: what cannot be used is refused by name") {
  const auto refusal = [](const std::string& name, const std::string& content) {
    DataFolder data;
    data.options.context = 4;
    data.train(name, content);
    return data.refusal();
  };
  CHECK_THAT(refusal("a.npy", npy(counting(4), "<i4")),
             ContainsSubstring("a.npy has 4 tokens, expected at least 5 for a context of 4 | more text, or a smaller "
                               "training.context"));
  CHECK_THAT(refusal("a.npy", npy(counting(0), "<i4")), ContainsSubstring("has 0 tokens, expected at least 5"));
  CHECK_THAT(refusal("a.npy", ""), ContainsSubstring("a.npy is empty"));
  CHECK_THAT(refusal("a.npy", npy(Ids{1, 2, -3, 4, 5}, "<i4")), ContainsSubstring("element 2 is -3, which is no id"));
  CHECK_THAT(refusal("a.npy", npy(std::vector<int64_t>{1, int64_t{1} << 31}, "<i8")),
             ContainsSubstring("element 1 is 2147483648, which is no id"));
  CHECK_THAT(refusal("a.npy", npy(counting(9), "<f4")), ContainsSubstring("expected int32, int64, uint16 or uint32"));
  CHECK_THAT(refusal("a.npy", npy(counting(9), ">i4")), ContainsSubstring("found '>i4'"));
  const std::string whole = npy(counting(9), "<i4");
  CHECK_THAT(refusal("a.npy", whole.substr(0, whole.size() - 1)), ContainsSubstring("cut short: 8 elements of 9"));
  for (size_t size = 1; size < 128; size += 3)
    CHECK_THAT(refusal("a.npy", whole.substr(0, size)), ContainsSubstring("is no .npy file, or is cut short"));
  std::string matrix = whole;
  matrix.replace(matrix.find("(9,)"), 4, "(3, 3)");
  CHECK_THAT(refusal("a.npy", matrix), ContainsSubstring("expected one dimension, found the shape '(3, 3)'"));
  CHECK_THAT(refusal("a.json", "[]"), ContainsSubstring("a.json ends in .json, expected .txt, .jsonl or .npy"));

  DataFolder data;
  data.recipe.train = {(data.folder.path() / "none.txt").string()};
  CHECK_THAT(data.refusal(), ContainsSubstring("none.txt does not exist"));
  data.recipe.train = {data.folder.path().string()};
  CHECK_THAT(data.refusal(), ContainsSubstring("has no .txt, .md, .jsonl or .npy file"));
  data.write("a.npy", npy(counting(9), "<i4"));
  data.write("b.txt", "text");
  CHECK_THAT(data.refusal(), ContainsSubstring("cannot be read together: one holds ids, one text"));
}
