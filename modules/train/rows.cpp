// See rows.h.
#include "train/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "autograd/ops.h"
#include "tensor/errors.h"
#include "train/packing.h"
#include "train/permutation.h"

namespace lathe {
namespace {

// Where documents are packed before they are shuffled: no epoch of the rows.
constexpr uint64_t kPackingEpoch = ~uint64_t{0};
// A row more than 97% full on average for texts of any usual lengths.
constexpr size_t kOpenRows = 32;

class Windows : public Dataset {
 public:
  Windows(Tokens tokens, int64_t begin, int64_t end, int64_t context, bool ragged, RowOrder order,
          const TargetTable& table)
      : tokens_(std::move(tokens)),
        ids_(tokens_.ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))),
        context_(context),
        order_(order) {
    const auto pairs = static_cast<int64_t>(ids_.size()) - 1;
    count_ = ragged ? (pairs + context - 1) / context : pairs / context;
    counts_.tokens = ragged ? pairs : count_ * context;
    for (int64_t i = 1; i <= counts_.tokens; ++i) table.count(ids_[static_cast<size_t>(i)], counts_);
    key_ = fmt::format("windows of {} tokens{}, {}, of ids [{}, {}) of {}", context, ragged ? " to the end" : "",
                       order.describe(), begin, end, tokens_.hash);
  }

  TrainingRows rows(int64_t first, int64_t count) const override {
    TrainingRows rows;
    rows.seq_start.push_back(0);
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t window = order_.row(row, count_), begin = window * context_;
      const auto from = ids_.begin() + begin;
      const int64_t size = std::min(context_, ids_.end() - from - 1);
      rows.tokens.insert(rows.tokens.end(), from, from + size);
      rows.targets.insert(rows.targets.end(), from + 1, from + 1 + size);
      rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
      rows.pieces.push_back(window);
    }
    rows.target_count = static_cast<int64_t>(rows.targets.size());
    return rows;
  }
  int64_t rows_per_epoch() const override { return count_; }
  Counts counts() const override { return counts_; }
  const std::string& key() const override { return key_; }

 private:
  Tokens tokens_;
  std::span<const int32_t> ids_;
  int64_t context_, count_;
  RowOrder order_;
  Counts counts_;
  std::string key_;
};

class Documents : public Dataset {
 public:
  Documents(Tokens tokens, int64_t begin, int64_t end, const DocumentOptions& options, const TargetTable& table,
            std::vector<std::string>& notes)
      : tokens_(std::move(tokens)), order_(options.order) {
    for (int64_t document = begin; document < end; document += options.pairs ? 2 : 1)
      options.pairs ? take_pair(document, options) : take(document, options);
    check(!pieces_.empty(), "data", "no record has a target within the context of {}", options.context);
    arrange(options);
    for (size_t i = 0; i < pieces_.size(); ++i)
      for (const int32_t id : targets_of(pieces_[i]))
        if (id >= 0) table.count(id, counts_);
    key_ = fmt::format("{} of {} tokens, {}, of documents [{}, {}) of {}", options.pairs ? "pairs" : "packed rows",
                       options.context, order_.describe(), begin, end, tokens_.hash);
    if (cut_ > 0)
      notes.push_back(fmt::format("{} of {} records are longer than the context of {} and lose their end: {} targets",
                                  cut_, end - begin, options.context, lost_targets_));
    if (left_out_ > 0)
      notes.push_back(fmt::format("{} records are left out: their targets lie beyond the context of {}", left_out_,
                                  options.context));
  }

  TrainingRows rows(int64_t first, int64_t count) const override {
    TrainingRows rows;
    rows.seq_start.push_back(0);
    for (int64_t run_row = first; run_row < first + count; ++run_row) {
      const auto row = static_cast<size_t>(order_.row(run_row, packing_.rows()));
      for (int64_t i = packing_.row_start[row]; i < packing_.row_start[row + 1]; ++i) {
        const int64_t number = packing_.items[static_cast<size_t>(i)];
        add(pieces_[static_cast<size_t>(number)], rows);
        rows.pieces.push_back(number);
      }
    }
    return rows;
  }
  int64_t rows_per_epoch() const override { return packing_.rows(); }
  Counts counts() const override { return counts_; }
  const std::string& key() const override { return key_; }

 private:
  struct PieceOfDocument {
    int64_t begin = 0;   // in ids
    int32_t tokens = 0;  // so many, each with the one behind it for a target
  };

  std::span<const int32_t> targets_of(const PieceOfDocument& piece) const {
    return tokens_.ids.subspan(static_cast<size_t>(piece.begin) + 1, static_cast<size_t>(piece.tokens));
  }
  int64_t learnt(const PieceOfDocument& piece) const {
    const auto targets = targets_of(piece);
    return std::count_if(targets.begin(), targets.end(), [](int32_t id) { return id >= 0; });
  }
  PieceOfDocument whole(int64_t document) const {
    const auto next = static_cast<size_t>(document) + 1;
    const int64_t begin = tokens_.documents[static_cast<size_t>(document)].begin;
    const int64_t end =
        next < tokens_.documents.size() ? tokens_.documents[next].begin : static_cast<int64_t>(tokens_.ids.size());
    check(end - begin <= INT32_MAX, "data", "a document has {} tokens, expected less than 2^31", end - begin);
    return {begin, static_cast<int32_t>(end - begin - 1)};
  }
  // What of a record lies within the context.
  PieceOfDocument beginning(int64_t document, const DocumentOptions& options) {
    PieceOfDocument piece = whole(document);
    if (piece.tokens <= options.context) return piece;
    ++cut_;
    lost_targets_ += learnt(piece);
    piece.tokens = static_cast<int32_t>(options.context);
    lost_targets_ -= learnt(piece);
    return piece;
  }

  void take(int64_t document, const DocumentOptions& options) {
    if (options.cuts) {
      const PieceOfDocument all = whole(document);
      const auto context = static_cast<int32_t>(options.context);
      for (int32_t done = 0; done < all.tokens; done += context)
        pieces_.push_back({all.begin + done, std::min(context, all.tokens - done)});
      return;
    }
    const PieceOfDocument piece = beginning(document, options);
    if (learnt(piece) == 0) return leave_out(document, options);
    pieces_.push_back(piece);
  }
  void take_pair(int64_t document, const DocumentOptions& options) {
    const PieceOfDocument chosen = beginning(document, options), rejected = beginning(document + 1, options);
    if (learnt(chosen) == 0 || learnt(rejected) == 0) return leave_out(document, options);
    pieces_.push_back(chosen);
    pieces_.push_back(rejected);
  }
  void leave_out(int64_t document, const DocumentOptions& options) {
    options.without_target(tokens_.documents[static_cast<size_t>(document)]);
    ++left_out_;
  }

  // Which pieces share a row.
  void arrange(const DocumentOptions& options) {
    const auto count = static_cast<int64_t>(pieces_.size());
    std::vector<int64_t> order(pieces_.size());
    std::iota(order.begin(), order.end(), 0);
    if (options.pairs) {
      packing_.items = std::move(order);
      for (int64_t i = 0; i <= count; i += 2) packing_.row_start.push_back(i);
    } else {
      if (order_.shuffled)
        for (int64_t& piece : order) piece = permuted(piece, count, order_.seed, kPackingEpoch);
      std::vector<int32_t> sizes(pieces_.size());
      std::transform(pieces_.begin(), pieces_.end(), sizes.begin(), [](const auto& piece) { return piece.tokens; });
      packing_ = pack(sizes, order, options.context, order_.shuffled ? kOpenRows : 1);
    }
    for (const PieceOfDocument& piece : pieces_) counts_.tokens += piece.tokens;
  }

  void add(const PieceOfDocument& piece, TrainingRows& rows) const {
    const auto from = tokens_.ids.begin() + piece.begin;
    for (auto id = from; id != from + piece.tokens; ++id) {
      rows.tokens.push_back(*id < 0 ? ~*id : *id);
      rows.targets.push_back(id[1] < 0 ? kIgnoredTarget : id[1]);
      rows.target_count += id[1] >= 0;
    }
    rows.seq_start.push_back(static_cast<int32_t>(rows.tokens.size()));
  }

  Tokens tokens_;
  RowOrder order_;
  std::vector<PieceOfDocument> pieces_;  // in the order of the files
  Packing packing_;
  int64_t cut_ = 0, lost_targets_ = 0, left_out_ = 0;
  Counts counts_;
  std::string key_;
};

}  // namespace

int64_t RowOrder::row(int64_t of_run, int64_t count) const {
  return shuffled ? permuted(of_run % count, count, seed, static_cast<uint64_t>(of_run / count)) : of_run % count;
}

std::string RowOrder::describe() const { return shuffled ? fmt::format("shuffled by seed {}", seed) : "in order"; }

TargetTable::TargetTable(const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) return;
  bytes_.resize(static_cast<size_t>(tokenizer->vocab_size()));
  for (size_t id = 0; id < bytes_.size(); ++id)
    if (!tokenizer->is_special(static_cast<int32_t>(id)))
      bytes_[id] = static_cast<int32_t>(tokenizer->token_bytes(static_cast<int32_t>(id)).size());
  ends_turn_.resize(bytes_.size());
  for (const int32_t id : tokenizer->end_of_turn_tokens()) ends_turn_[static_cast<size_t>(id)] = true;
}

void TargetTable::count(int32_t target, Dataset::Counts& counts) const {
  ++counts.targets;
  if (static_cast<size_t>(target) >= bytes_.size()) return;
  counts.bytes += bytes_[static_cast<size_t>(target)];
  counts.end_of_turn_targets += ends_turn_[static_cast<size_t>(target)];
}

std::unique_ptr<Dataset> make_windows(Tokens tokens, int64_t begin, int64_t end, int64_t context, bool ragged,
                                      RowOrder order, const TargetTable& table) {
  return std::make_unique<Windows>(std::move(tokens), begin, end, context, ragged, order, table);
}

std::unique_ptr<Dataset> make_documents(Tokens tokens, int64_t begin, int64_t end, const DocumentOptions& options,
                                        const TargetTable& table, std::vector<std::string>& notes) {
  return std::make_unique<Documents>(std::move(tokens), begin, end, options, table, notes);
}

}  // namespace lathe
