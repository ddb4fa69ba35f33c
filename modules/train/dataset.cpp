// The data of a run as rows: see dataset.h.
#include "train/dataset.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "autograd/ops.h"
#include "tensor/errors.h"
#include "train/permutation.h"
#include "train/tokenize_data.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// What is counted of a target.
class TargetTable {
 public:
  explicit TargetTable(const Tokenizer* tokenizer) {
    if (tokenizer == nullptr) return;
    bytes_.resize(static_cast<size_t>(tokenizer->vocab_size()));
    for (size_t id = 0; id < bytes_.size(); ++id)
      if (!tokenizer->is_special(static_cast<int32_t>(id)))
        bytes_[id] = static_cast<int32_t>(tokenizer->token_bytes(static_cast<int32_t>(id)).size());
    ends_turn_.resize(bytes_.size());
    for (const int32_t id : tokenizer->end_of_turn_tokens()) ends_turn_[static_cast<size_t>(id)] = true;
  }
  void count(int32_t target, Dataset::Counts& counts) const {
    ++counts.targets;
    if (static_cast<size_t>(target) >= bytes_.size()) return;
    counts.bytes += bytes_[static_cast<size_t>(target)];
    counts.end_of_turn_targets += ends_turn_[static_cast<size_t>(target)];
  }

 private:
  std::vector<int32_t> bytes_;
  std::vector<bool> ends_turn_;
};

// What is the same for every kind of row.
struct RowOrder {
  int64_t count = 0;  // rows of one epoch
  bool shuffled = false;
  uint64_t seed = 0;

  // Which of the rows is row `row` of the run.
  int64_t operator[](int64_t row) const {
    return shuffled ? permuted(row % count, count, seed, static_cast<uint64_t>(row / count)) : row % count;
  }
  std::string describe() const { return shuffled ? fmt::format("shuffled by seed {}", seed) : "in order"; }
};

// Windows of context + 1 ids, `context` apart, of one stream. With `ragged` the last one may be shorter.
class WindowDataset : public Dataset {
 public:
  WindowDataset(Tokens tokens, int64_t begin, int64_t end, int64_t context, bool ragged, RowOrder order,
                const TargetTable& table)
      : tokens_(std::move(tokens)),
        ids_(tokens_.ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))),
        context_(context),
        order_(order) {
    const auto pairs = static_cast<int64_t>(ids_.size()) - 1;
    order_.count = ragged ? (pairs + context - 1) / context : pairs / context;
    counts_.tokens = ragged ? pairs : order_.count * context;
    for (int64_t i = 1; i <= counts_.tokens; ++i) table.count(ids_[static_cast<size_t>(i)], counts_);
    key_ = fmt::format("windows of {} tokens, {}, over ids [{}, {}) of {}", context, order_.describe(), begin, end,
                       tokens_.hash);
  }

  TrainingRows rows(int64_t first, int64_t count) const override {
    TrainingRows rows;
    rows.seq_start.push_back(0);
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t window = order_[row], begin = window * context_;
      const int64_t size = std::min(context_, static_cast<int64_t>(ids_.size()) - 1 - begin);
      const auto from = ids_.begin() + begin;
      rows.tokens.insert(rows.tokens.end(), from, from + size);
      rows.targets.insert(rows.targets.end(), from + 1, from + 1 + size);
      rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
      rows.pieces.push_back(window);
    }
    rows.target_count = static_cast<int64_t>(rows.targets.size());
    return rows;
  }
  int64_t rows_per_epoch() const override { return order_.count; }
  Counts counts() const override { return counts_; }
  const std::string& key() const override { return key_; }

 private:
  Tokens tokens_;
  std::span<const int32_t> ids_;
  int64_t context_;
  RowOrder order_;
  Counts counts_;
  std::string key_;
};

std::string named(const std::vector<std::string>& paths) {
  return paths.size() == 1 ? paths.front() : fmt::format("{} and {} more", paths.front(), paths.size() - 1);
}

// The largest id + 1. Throws Error for what is no id.
int64_t check_ids(const Tokens& tokens, const std::string& source) {
  int32_t largest = -1;
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    check(tokens.ids[i] >= 0, "data", "{}: element {} is {}, which is no id", source, i, tokens.ids[i]);
    largest = std::max(largest, tokens.ids[i]);
  }
  return int64_t{largest} + 1;
}

void check_length(int64_t tokens, int64_t needed, int64_t context, const std::string& source) {
  if (tokens >= needed) return;
  throw Error(fmt::format("data: {} has {} token{}, expected at least {} for a context of {}", source, tokens,
                          tokens == 1 ? "" : "s", needed, context),
              "more text, or a smaller training.context");
}

}  // namespace

TrainingData open_data(const DataRecipe& recipe, const DataOptions& options) {
  check(!recipe.train.empty(), "data", "data.train names no file");
  check(options.context > 0, "data", "the context is {}, expected at least 1", options.context);
  std::error_code error;
  fs::create_directories(options.cache, error);
  check(!error, "data", "cannot create the folder {}: {}", options.cache, error.message());
  const std::vector<DataFile> train = list_data_files(recipe.train);
  const std::vector<DataFile> validation = list_data_files(recipe.validation);
  std::vector<DataFile> all = train;
  all.insert(all.end(), validation.begin(), validation.end());

  TrainingData data;
  const DataTokenizer chosen = choose_tokenizer(recipe, options, all);
  data.tokenizer = chosen.tokenizer;
  data.tokenizer_folder = chosen.folder;
  const bool ids = train.front().kind == DataFile::Kind::ids;
  const TargetTable table(ids ? nullptr : chosen.tokenizer.get());
  const RowOrder order{0, recipe.order == DataRecipe::Order::shuffled, options.seed};

  const Tokens tokens = tokenize_data(train, recipe, chosen, options);
  const auto size = static_cast<int64_t>(tokens.ids.size());
  data.vocab_size = ids ? check_ids(tokens, named(recipe.train)) : chosen.tokenizer->vocab_size();
  const auto windows = [&](const Tokens& of, int64_t begin, int64_t end, bool is_train, const std::string& source) {
    check_length(end - begin, is_train ? options.context + 1 : 2, options.context, source);
    return std::make_unique<WindowDataset>(of, begin, end, options.context, !is_train, is_train ? order : RowOrder{},
                                           table);
  };
  // As nanoGPT's data/shakespeare_char/prepare.py cuts it.
  const int64_t border = recipe.validation_share > 0
                             ? static_cast<int64_t>(static_cast<double>(size) * (1 - recipe.validation_share))
                             : size;
  const std::string source = named(recipe.train);
  data.train = windows(tokens, 0, border, true, border < size ? source + " without its validation share" : source);
  if (border < size) data.validation = windows(tokens, border, size, false, "the validation share of " + source);
  if (!validation.empty()) {
    const Tokens held_out = tokenize_data(validation, recipe, chosen, options);
    if (ids) data.vocab_size = std::max(data.vocab_size, check_ids(held_out, named(recipe.validation)));
    data.validation = windows(held_out, 0, static_cast<int64_t>(held_out.ids.size()), false, named(recipe.validation));
  }
  return data;
}

}  // namespace lathe
