// Texts as training data: by character and by a given tokenizer, splits, bytes, the cache.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/train/data_files.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;

namespace {

// The ids of a data set whose rows are in order, from its first row on.
Ids ids_of(const Dataset& data) {
  const TrainingRows rows = data.rows(0, data.rows_per_epoch());
  Ids ids = rows.tokens;
  if (!ids.empty()) ids.push_back(rows.targets.back());
  return ids;
}

}  // namespace

TEST_CASE("text: by character, the vocabulary is the sorted characters and nothing is lost") {
  DataFolder data;
  data.recipe.tokenizer = "character";
  data.recipe.order = DataRecipe::Order::sequential;
  data.options.context = 5;
  const std::string text = "b a\r\nc\t\"\\ \xC3\xA9\xF0\x9F\x98\x80 bca  <|endoftext|>\n\n";
  data.train("a.txt", text);
  const TrainingData opened = data.open();
  const Tokenizer& tokenizer = *opened.tokenizer;
  CHECK(opened.vocab_size == 21);  // the distinct characters
  CHECK(tokenizer.token_text(0) == "\t");
  CHECK(tokenizer.token_text(20) == "\xF0\x9F\x98\x80");
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  const auto reloaded = Tokenizer::load(opened.tokenizer_folder);
  CHECK(reloaded->encode(text) == tokenizer.encode(text));
  Ids ids = ids_of(*opened.train), whole = tokenizer.encode(text);
  CHECK(ids == Ids(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(ids.size())));
  CHECK(nlohmann::json::parse(read_file(std::filesystem::path(opened.tokenizer_folder) / "tokenizer_config.json"))
            .at("tokenizer_class") == "PreTrainedTokenizerFast");
}

TEST_CASE("text: the last share is held out, and its characters are in the vocabulary") {
  DataFolder data;
  data.recipe.tokenizer = "character";
  data.recipe.order = DataRecipe::Order::sequential;
  data.recipe.validation_share = 0.1;
  data.options.context = 4;
  data.train("a.txt", std::string(37, 'a') + "bcd\xC3\xA9");  // 41 characters: 36 and 5, as int(41 * 0.9) has it
  const TrainingData opened = data.open();
  CHECK(opened.vocab_size == 5);
  CHECK(opened.train->rows_per_epoch() == 8);
  CHECK(ids_of(*opened.train) == Ids(33, 0));
  CHECK(ids_of(*opened.validation) == Ids{0, 1, 2, 3, 4});
  CHECK(opened.validation->counts().targets == 4);
  CHECK(opened.validation->counts().bytes == 5);  // of bcd and the two of \u00e9
  CHECK(opened.train->counts().bytes == 32);
}

TEST_CASE("text: validation data are read in order and to their end, however the training data are shuffled") {
  DataFolder data;
  data.recipe.tokenizer = "character";
  data.options.context = 4;
  data.train("a.txt", "aaaaabbbbbccccc");
  data.recipe.validation = {data.write("v.txt", "abcabcz")};
  const TrainingData opened = data.open();
  CHECK(opened.vocab_size == 4);
  const TrainingRows rows = opened.validation->rows(0, 2);
  CHECK(rows.tokens == Ids{0, 1, 2, 0, 1, 2});
  CHECK(rows.targets == Ids{1, 2, 0, 1, 2, 3});
  CHECK(rows.seq_start == Ids{0, 4, 6});
  CHECK(opened.validation->rows_per_epoch() == 2);
}
