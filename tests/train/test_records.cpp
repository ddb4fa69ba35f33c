// Records of .jsonl files: what of them is learnt, how they are packed into rows, what is refused and skipped.
#include <algorithm>
#include <set>

#include "autograd/ops.h"
#include "tests/catch.h"
#include "tests/train/data_files.h"
#include "train/packing.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using Format = DataRecipe::Format;
using Ids = std::vector<int32_t>;

namespace {

struct Records : DataFolder {
  explicit Records(Format format, const std::string& lines) {
    recipe.format = format;
    recipe.order = DataRecipe::Order::sequential;
    recipe.tokenizer =
        std::filesystem::path(write("tokenizer/tokenizer.json", byte_tokenizer({"<|end|>"}))).parent_path();
    write("tokenizer/chat_template.jinja",
          "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<|end|>{% endfor %}"
          "{% if add_generation_prompt %}a:{% endif %}");
    train("data.jsonl", lines);
  }
  // All pieces of the first epoch, row by row: "piece, piece | piece".
  static std::string rows(const Dataset& data, const Tokenizer& tokenizer) {
    std::string text;
    for (int64_t row = 0; row < data.rows_per_epoch(); ++row) {
      const TrainingRows rows = data.rows(row, 1);
      for (size_t piece = 0; piece + 1 < rows.seq_start.size(); ++piece)
        text += (piece ? ", " : row ? " | " : "") + marked(tokenizer, rows, piece);
    }
    return text;
  }
  std::string rows() const {
    const TrainingData data = open();
    return rows(*data.train, *data.tokenizer);
  }
};

}  // namespace

TEST_CASE("packing: each item once, no row over its capacity, in order with one open row, full with several") {
  const std::vector<int32_t> sizes = {3, 5, 2, 4, 1, 6, 2, 7, 1};
  std::vector<int64_t> order = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  const Packing one = pack(sizes, order, 7, 1);
  CHECK(one.items == order);
  CHECK(one.row_start == std::vector<int64_t>{0, 1, 3, 5, 6, 7, 8, 9});
  const Packing many = pack(sizes, order, 7, 4);
  std::multiset<int64_t> items(many.items.begin(), many.items.end());
  CHECK(items == std::multiset<int64_t>(order.begin(), order.end()));
  for (int64_t row = 0; row < many.rows(); ++row) {
    int32_t used = 0;
    for (int64_t i = many.row_start[row]; i < many.row_start[row + 1]; ++i) used += sizes[many.items[i]];
    CHECK(used <= 7);
  }
  CHECK(many.rows() == 5);  // 31 of them at 7 a row
  CHECK(pack({}, {}, 7, 4).rows() == 0);
}

TEST_CASE("records: texts are packed with their ends, longer ones cut, every token but the first is a target once") {
  Records records(Format::text, "{\"text\": \"ab\"}\n\n{\"text\": \"cdefghi\", \"id\": 7}\r\n{\"text\": \"j\"}");
  records.options.context = 4;
  CHECK(records.rows() == "a[b<|end|>] | c[defg] | g[hi<|end|>], j[<|end|>]");
  const TrainingData data = records.open();
  CHECK(data.train->counts().tokens == 10);
  CHECK(data.train->counts().targets == 10);
  CHECK(data.train->counts().end_of_turn_targets == 3);
  CHECK(data.train->counts().bytes == 7);  // the ends stand for none, and first bytes are no targets
  const TrainingRows rows = data.train->rows(1, 2);
  CHECK(rows.seq_start == Ids{0, 4, 7, 8});
  CHECK(rows.pieces == std::vector<int64_t>{1, 2, 3});
  CHECK(rows.target_count == 8);
}

TEST_CASE("records: shuffled, rows hold other neighbours and every piece once an epoch") {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"text\": \"" + std::string(1 + i % 9, 'x') + "\"}\n";
  Records records(Format::text, lines);
  records.recipe.order = DataRecipe::Order::shuffled;
  records.options.context = 20;
  const TrainingData data = records.open();
  const int64_t rows = data.train->rows_per_epoch();
  // 200 records of 1 to 9 bytes hold (22 * 45 + 3) tokens: 50 full rows of 20.
  CHECK(rows <= 51);
  std::vector<int64_t> first = data.train->rows(0, rows).pieces, second = data.train->rows(rows, rows).pieces;
  CHECK(first != second);
  CHECK(std::ssize(first) == 200);
  for (int64_t row = 0; row < rows; ++row) CHECK(data.train->rows(row, 1).seq_start.back() <= 20);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  CHECK(first == second);
  CHECK(std::adjacent_find(first.begin(), first.end()) == first.end());
}

TEST_CASE("records: completions, chats and their counts") {
  Records completion(Format::completion, "{\"prompt\": \"ab\", \"completion\": \"cd\"}");
  CHECK(completion.rows() == "ab[cd<|end|>]");
  const Dataset::Counts counts = completion.open().train->counts();
  CHECK(counts.tokens == 4);
  CHECK(counts.targets == 3);
  CHECK(counts.end_of_turn_targets == 1);
  CHECK(counts.bytes == 2);
  const TrainingRows rows = completion.open().train->rows(0, 1);
  CHECK(rows.targets[0] == kIgnoredTarget);
  CHECK(rows.target_count == 3);

  const std::string chat =
      "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", \"content\": \"B\"}]}";
  CHECK(Records(Format::chat, chat).rows() == "u:A<|end|>a:[B<|end|>]");
  const std::string list =
      "{\"prompt\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", \"content\": \"B\"}, "
      "{\"role\": \"user\", \"content\": \"C\"}], \"completion\": \"D\"}";
  CHECK(Records(Format::completion, list).rows() == "u:A<|end|>a:B<|end|>u:C<|end|>a:[D<|end|>]");
}

TEST_CASE("records: preferences are pairs, chosen before rejected") {
  const std::string text = "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"cd\"}\n";
  Records records(Format::preference, text + text);
  CHECK(records.rows() == "a[b<|end|>], a[cd<|end|>] | a[b<|end|>], a[cd<|end|>]");
  CHECK(records.open().train->rows(1, 1).pieces == std::vector<int64_t>{2, 3});
  records.recipe.validation_share = 0.5;
  CHECK(records.open().train->rows_per_epoch() == 1);
  CHECK(records.open().validation->rows_per_epoch() == 1);

  const auto turn = [](const char* role, const char* content) {
    return std::string("{\"role\": \"") + role + "\", \"content\": \"" + content + "\"}";
  };
  const std::string prompt = turn("user", "A") + ", " + turn("assistant", "B") + ", " + turn("user", "C");
  const std::string whole = "{\"chosen\": [" + prompt + ", " + turn("assistant", "D") + "], \"rejected\": [" + prompt +
                            ", " + turn("assistant", "E") + "]}";
  CHECK(Records(Format::preference, whole).rows() ==
        "u:A<|end|>a:B<|end|>u:C<|end|>a:[D<|end|>], u:A<|end|>a:B<|end|>u:C<|end|>a:[E<|end|>]");
  const std::string parted =
      "{\"prompt\": [" + prompt + "], \"chosen\": \"D\", \"rejected\": [" + turn("assistant", "E") + "]}";
  CHECK(Records(Format::preference, parted).rows() == Records(Format::preference, whole).rows());
}

TEST_CASE("records: what is longer than the context loses its end, and says so") {
  const std::string lines =
      "{\"prompt\": \"ab\", \"completion\": \"cdef\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  Records records(Format::completion, lines);
  records.options.context = 3;
  CHECK(records.rows() == "ab[cd] | a[b<|end|>]");
  CHECK(records.open().notes ==
        std::vector<std::string>{"1 of 2 records are longer than the context of 3 and lose their end: 3 targets"});
  records.options.context = 1;
  CHECK_THAT(records.refusal(), ContainsSubstring("data.jsonl: line 1: the first target lies beyond the context of 1"));
  records.options.skip_bad_lines = true;
  CHECK(records.rows() == "a[b]");
  CHECK_THAT(records.open().notes.back(), ContainsSubstring("1 records are left out"));
}

TEST_CASE("records: a bad line is named by its number, or skipped and counted") {
  const auto refusal = [](Format format, const std::string& line) {
    return Records(format,
                   "\n{\"text\": \"ab\", \"prompt\": \"a\", \"completion\": \"b\", \"chosen\": \"b\", "
                   "\"rejected\": \"c\", \"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n" +
                       line)
        .refusal();
  };
  const auto text = [&](const std::string& line) { return refusal(Format::text, line); };
  CHECK_THAT(text("{\"text\": \"a}"), ContainsSubstring("data.jsonl: line 3: parse error at column 13"));
  CHECK_THAT(text("{\"text\": 7}"), ContainsSubstring("data.jsonl: line 3: text: expected a string, found 7 | --skip"));
  CHECK_THAT(text("{\"texts\": \"a\"}"), ContainsSubstring("data.jsonl: line 3: 'text' is missing"));
  CHECK_THAT(text("[1]"), ContainsSubstring("data.jsonl: line 3: expected an object, found an array"));
  CHECK_THAT(text("{\"text\": \"a\", \"text\": \"b\"}"), ContainsSubstring("line 3: the key 'text' appears twice"));
  CHECK_THAT(text("{\"text\": \"\"}"), ContainsSubstring("line 3: nothing of the record is learnt"));
  CHECK_THAT(text("{\"text\": \"\xFF\"}"), ContainsSubstring("line 3: parse error"));
  CHECK_THAT(refusal(Format::completion, "{\"prompt\": \"a\"}"), ContainsSubstring("line 3: 'completion' is missing"));
  CHECK_THAT(refusal(Format::chat, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"),
             ContainsSubstring("line 3: nothing of the record is learnt | expected a message of the role assistant"));
  CHECK_THAT(refusal(Format::chat, "{\"messages\": []}"), ContainsSubstring("line 3: messages: expected at least one"));
  CHECK_THAT(refusal(Format::chat, "{\"messages\": [{\"content\": \"a\"}]}"),
             ContainsSubstring("line 3: messages[0]: 'role' is missing"));
  CHECK_THAT(refusal(Format::preference, "{\"prompt\": \"a\", \"chosen\": \"b\"}"),
             ContainsSubstring("line 3: 'rejected' is missing"));

  Records records(Format::text, "{\"text\": \"ab\"}\nno\n{\"text\": \"cd\"}\n{\"text\": \"\"}\n");
  records.options.skip_bad_lines = true;
  CHECK(records.rows() == "a[b<|end|>], c[d<|end|>]");
  for (int run = 0; run < 2; ++run)  // the second one reads the shard
    CHECK_THAT(records.open().notes.at(0), ContainsSubstring("data.jsonl: 2 bad lines are left out"));
  records.options.skip_bad_lines = false;
  CHECK_THAT(records.refusal(), ContainsSubstring("line 2: parse error"));
}

TEST_CASE("records: formats that need records, templates or text say so") {
  Records records(Format::chat, "{}");
  std::filesystem::remove(records.folder.path() / "tokenizer/chat_template.jinja");
  CHECK_THAT(records.refusal(), ContainsSubstring("format chat: the tokenizer has no chat template"));
  records.recipe.train = {records.write("a.txt", "text")};
  CHECK_THAT(records.refusal(), ContainsSubstring("records of the formats completion, chat and preference are .jsonl"));
  Records empty(Format::text, "\n\n");
  CHECK_THAT(empty.refusal(), ContainsSubstring("data.jsonl has no record"));
  CHECK_THAT(Records(Format::text, "").refusal(), ContainsSubstring("data.jsonl is empty"));
}
