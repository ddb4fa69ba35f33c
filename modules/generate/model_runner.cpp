#include "generate/model_runner.h"

#include <algorithm>
#include <cstring>
#include <deque>

namespace lathe {
namespace {

// What the first rank tells the others of a pass: numbers, read in the order in which they were written.
class PassWriter {
 public:
  void put(int64_t number) { text_.append(reinterpret_cast<const char*>(&number), sizeof number); }
  void put(std::span<const int32_t> list) {
    put(std::ssize(list));
    text_.append(reinterpret_cast<const char*>(list.data()), list.size_bytes());
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class PassReader {
 public:
  explicit PassReader(const std::string& text) : text_(text) {}
  int64_t number() {
    int64_t value;
    take(&value, sizeof value);
    return value;
  }
  std::vector<int32_t> list() {
    std::vector<int32_t> values(static_cast<size_t>(number()));
    take(values.data(), values.size() * sizeof(int32_t));
    return values;
  }

 private:
  void take(void* to, size_t bytes) {
    check(bytes <= text_.size() - at_, "ranks", "a pass of {} bytes ends within a number", text_.size());
    if (bytes > 0) std::memcpy(to, text_.data() + at_, bytes);
    at_ += bytes;
  }

  const std::string& text_;
  size_t at_ = 0;
};

std::string told(std::span<const PageCopy> copies, std::span<const BatchSequence> sequences) {
  PassWriter out;
  out.put(std::ssize(copies));
  for (const PageCopy& copy : copies)
    for (const int64_t number : {static_cast<int64_t>(copy.group), int64_t{copy.from}, int64_t{copy.to}})
      out.put(number);
  out.put(std::ssize(sequences));
  for (const BatchSequence& s : sequences) {
    out.put(s.tokens);
    out.put(s.cached);
    out.put(s.logits_from);
    out.put(s.rope ? s.rope->frequencies.text_length : 0);
    for (const std::span<const int32_t> pages : s.pages) out.put(pages);
  }
  return out.text();
}

// The rows of sequences with adapters; those of one adapter in a row are one run.
RowChanges row_changes(std::span<const BatchSequence> sequences) {
  RowChanges changes;
  int64_t row = 0;
  for (const BatchSequence& s : sequences) {
    const int64_t end = row + std::ssize(s.tokens);
    if (s.changes != nullptr) {
      if (changes.runs.empty() || changes.runs.back().end != row || changes.runs.back().changes != s.changes)
        changes.runs.push_back({row, row, s.changes});
      changes.runs.back().end = end;
    }
    row = end;
  }
  return changes;
}

// As many pages as the first rank has.
std::vector<int64_t> first_ranks(const std::vector<int64_t>& pages, Communicator& ranks) {
  std::vector<double> counts(pages.begin(), pages.end());
  if (!ranks.is_first()) std::fill(counts.begin(), counts.end(), 0.0);
  ranks.sum(counts);
  return {counts.begin(), counts.end()};
}

}  // namespace

ModelRunner::ModelRunner(const CausalLM& model, DType cache_dtype, const std::vector<int64_t>& pages, int64_t longest,
                         int64_t graphed_sequences)
    : model_(model),
      cache_(model.sizes, cache_dtype, first_ranks(pages, *model.ranks), model.device()),
      ropes_(model.config, longest, DType::f32, model.device()) {
  if (graphed_sequences > 0 && model.device().kind == Device::Kind::cuda && model.ranks->alone())
    graphs_ = std::make_unique<DecodeGraphs>(model, cache_, longest, graphed_sequences);
}

ModelRunner::~ModelRunner() {
  if (!model_.ranks->alone() && model_.ranks->is_first() && !in_pass_) model_.ranks->broadcast("");
}

Tensor ModelRunner::run(std::span<const PageCopy> copies, std::span<const BatchSequence> sequences, Tensor* hidden) {
  if (model_.ranks->alone()) return run_own(copies, sequences, hidden);
  check(!in_pass_, "ranks", "the pass before this one has failed, and the other ranks wait in it");
  in_pass_ = true;
  model_.ranks->broadcast(told(copies, sequences));
  Tensor logits = run_own(copies, sequences, hidden);
  in_pass_ = false;
  return logits;
}

Tensor ModelRunner::run_own(std::span<const PageCopy> copies, std::span<const BatchSequence> sequences,
                            Tensor* hidden) {
  for (const PageCopy& copy : copies) cache_.copy_page(copy.group, copy.from, copy.to);
  if (!hidden && graphs_ && graphs_->takes(sequences)) return graphs_->run(sequences);
  const Batch batch = make_batch(sequences, &cache_);
  RowChanges changes = row_changes(sequences);
  const RowChanges::Scope scope(changes);
  const Tensor states = model_.hidden(batch);  // (N, C)
  if (hidden) *hidden = states;
  return batch.sizes.rows > 0 ? logits_of(model_, batch, states) : Tensor{};
}

void ModelRunner::run_told(const std::string& message) {
  PassReader in(message);
  std::vector<PageCopy> copies(static_cast<size_t>(in.number()));
  for (PageCopy& copy : copies) {
    copy.group = static_cast<size_t>(in.number());
    copy.from = static_cast<int32_t>(in.number());
    copy.to = static_cast<int32_t>(in.number());
  }
  std::vector<BatchSequence> sequences(static_cast<size_t>(in.number()));
  std::deque<std::vector<int32_t>> lists;  // that the sequences show
  std::vector<std::shared_ptr<RopeTable>> tables;
  for (BatchSequence& s : sequences) {
    s.tokens = lists.emplace_back(in.list());
    s.cached = in.number();
    s.logits_from = in.number();
    s.rope = tables.emplace_back(ropes_.of(in.number())).get();
    for (size_t g = 0; g < cache_.groups(); ++g) s.pages.emplace_back(lists.emplace_back(in.list()));
  }
  tables_ = std::move(tables);
  run_own(copies, sequences, nullptr);
}

bool ModelRunner::follow() {
  if (model_.ranks->is_first()) return false;
  for (std::string pass; !(pass = model_.ranks->broadcast("")).empty();) run_told(pass);
  return true;
}

}  // namespace lathe
