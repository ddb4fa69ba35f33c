// Opening the data of a run: see dataset.h.
#include "train/dataset.h"

#include <algorithm>
#include <filesystem>

#include "tensor/errors.h"
#include "train/rows.h"
#include "train/tokenize_data.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Format = DataRecipe::Format;

std::string named(const std::vector<DataFile>& files) {
  return files.size() == 1 ? files.front().path : fmt::format("{} and {} more", files.front().path, files.size() - 1);
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

// Files that are read alike, as one or two data sets.
class DataSource {
 public:
  DataSource(std::vector<DataFile> files, const DataRecipe& recipe, const DataTokenizer& tokenizer,
             const DataOptions& options)
      : files_(std::move(files)), recipe_(recipe), options_(options) {
    check(recipe.format == Format::text || lines() == std::ssize(files_), "data",
          "{}: records of the formats completion, chat and preference are .jsonl files", named(files_));
    tokens_ = tokenize_data(files_, recipe, tokenizer, options);
    packs_ = lines() > 0;
    size_ = packs_ ? std::ssize(tokens_.documents) / unit() : std::ssize(tokens_.ids);
  }

  const Tokens& tokens() const { return tokens_; }
  std::string name() const { return named(files_); }
  // Of all that can be parted: records, or ids of a stream.
  int64_t size() const { return size_; }

  // Those of [begin, end). What is validated on is read in order and to its end.
  std::unique_ptr<Dataset> open(int64_t begin, int64_t end, bool is_train, const TargetTable& table,
                                std::vector<std::string>& notes) const {
    const bool shuffled = is_train && recipe_.order == DataRecipe::Order::shuffled;
    const RowOrder order{shuffled, shuffled ? options_.seed : 0};
    const std::string part = end - begin == size_ ? name() : (is_train ? "all but the " : "the ") + share() + name();
    if (!packs_) {
      check_length(end - begin, is_train ? options_.context + 1 : 2, options_.context, part);
      return make_windows(tokens_, begin, end, options_.context, !is_train, order, table);
    }
    check(begin < end, "data", "{} has no record", part);
    DocumentOptions documents;
    documents.context = options_.context;
    documents.cuts = recipe_.format == Format::text;
    documents.pairs = recipe_.format == Format::preference;
    documents.order = order;
    documents.without_target = [this](const TokenDocument& document) {
      if (options_.skip_bad_lines) return;
      throw Error(fmt::format("{}: line {}: the first target lies beyond the context of {}",
                              files_[static_cast<size_t>(document.file)].path, document.line, options_.context),
                  "a larger training.context, or --skip-bad-lines, which leaves such records out");
    };
    return make_documents(tokens_, begin * unit(), end * unit(), documents, table, notes);
  }

  void note_skipped(std::vector<std::string>& notes) const {
    if (tokens_.skipped > 0)
      notes.push_back(
          fmt::format("{}: {} bad line{} left out", name(), tokens_.skipped, tokens_.skipped == 1 ? " is" : "s are"));
  }

 private:
  int64_t lines() const {
    return std::count_if(files_.begin(), files_.end(),
                         [](const DataFile& file) { return file.kind == DataFile::Kind::lines; });
  }
  // Documents of a record.
  int64_t unit() const { return recipe_.format == Format::preference ? 2 : 1; }
  std::string share() const { return fmt::format("last {} of ", recipe_.validation_share); }

  std::vector<DataFile> files_;
  const DataRecipe& recipe_;
  const DataOptions& options_;
  Tokens tokens_;
  bool packs_ = false;
  int64_t size_ = 0;
};

}  // namespace

TrainingData open_data(const DataRecipe& recipe, const DataOptions& options) {
  check(!recipe.train.empty(), "data", "data.train names no file");
  check(options.context > 0, "data", "the context is {}, expected at least 1", options.context);
  std::error_code error;
  fs::create_directories(options.cache, error);
  check(!error, "data", "cannot create the folder {}: {}", options.cache, error.message());
  const std::vector<DataFile> train_files = list_data_files(recipe.train);
  const std::vector<DataFile> validation_files = list_data_files(recipe.validation);
  std::vector<std::string> paths = recipe.train;
  paths.insert(paths.end(), recipe.validation.begin(), recipe.validation.end());
  const std::vector<DataFile> all = list_data_files(paths);

  TrainingData data;
  const DataTokenizer tokenizer = choose_tokenizer(recipe, options, train_files, all);
  data.tokenizer = tokenizer.tokenizer;
  data.tokenizer_folder = tokenizer.folder;
  if (tokenizer.tokenizer) data.notes = tokenizer.tokenizer->warnings();
  const bool ids = train_files.front().kind == DataFile::Kind::ids;
  const TargetTable table(ids ? nullptr : tokenizer.tokenizer.get());
  const auto take_size = [&](const DataSource& source) {
    source.note_skipped(data.notes);
    data.vocab_size =
        std::max(data.vocab_size, ids ? check_ids(source.tokens(), source.name()) : tokenizer.tokenizer->vocab_size());
  };

  const DataSource train(train_files, recipe, tokenizer, options);
  take_size(train);
  // As nanoGPT's data/shakespeare_char/prepare.py parts a text.
  const auto size = static_cast<double>(train.size());
  const auto border =
      recipe.validation_share > 0 ? static_cast<int64_t>(size * (1 - recipe.validation_share)) : train.size();
  data.train = train.open(0, border, true, table, data.notes);
  if (border < train.size()) data.validation = train.open(border, train.size(), false, table, data.notes);
  if (!validation_files.empty()) {
    const DataSource held_out(validation_files, recipe, tokenizer, options);
    take_size(held_out);
    data.validation = held_out.open(0, held_out.size(), false, table, data.notes);
  }
  return data;
}

}  // namespace lathe
