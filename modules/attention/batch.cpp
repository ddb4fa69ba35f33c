// A batch is filled in the host's memory, then moved to the device of the cache.
#include "attention/batch.h"

#include <algorithm>
#include <numeric>

namespace lathe {
namespace {

constexpr Device kHost;  // where a batch is filled before it moves

Tensor integers(Shape shape) { return Tensor::empty(shape, DType::i32, kHost); }

// What a sequence's new tokens take of its table, one after another, where sequences have tables of their own.
RopeAngles gather_angles(std::span<const BatchSequence> sequences, size_t kind, int64_t tokens) {
  const RopeAngles& first = sequences.front().rope->reach(0)[kind];
  const Shape shape{tokens, first.cos.dim(1)};
  RopeAngles all{Tensor::empty(shape, first.cos.dtype(), kHost), Tensor::empty(shape, first.cos.dtype(), kHost),
                 integers({tokens}), first.style};
  std::iota(all.rows.host<int32_t>(), all.rows.host<int32_t>() + tokens, 0);
  int64_t row = 0;
  for (const BatchSequence& s : sequences) {
    const int64_t count = std::ssize(s.tokens), end = s.cached + count;
    const RopeAngles& own = s.rope->reach(end)[kind];
    all.cos.row_range(row, row + count).copy_from(own.cos.row_range(s.cached, end));
    all.sin.row_range(row, row + count).copy_from(own.sin.row_range(s.cached, end));
    row += count;
  }
  return all;
}

// By kind of rope in the model.
std::vector<RopeAngles> angles_of(std::span<const BatchSequence> sequences, const Batch& batch) {
  RopeTable* table = sequences.front().rope;
  if (table == nullptr) return {};
  const auto kinds = table->reach(0).size();
  bool shared = true;
  for (const BatchSequence& s : sequences) {
    check(s.rope != nullptr && s.rope->reach(0).size() == kinds &&
              s.rope->frequencies.inverse.size() == table->frequencies.inverse.size(),
          "batch", "every sequence needs the rope table of the same model");
    shared = shared && s.rope == table;
  }
  std::vector<RopeAngles> angles;
  for (size_t kind = 0; kind < kinds; ++kind) {
    if (!shared) {
      angles.push_back(gather_angles(sequences, kind, batch.sizes.tokens));
      continue;
    }
    angles.push_back(table->reach(batch.sizes.longest_context)[kind]);
    angles.back().rows = batch.positions;
  }
  return angles;
}

PageTable make_page_table(std::span<const BatchSequence> sequences, size_t group, const Batch& batch) {
  int64_t widest = 1;
  for (const BatchSequence& s : sequences)
    widest = std::max(widest, pages_for(s.cached + static_cast<int64_t>(s.tokens.size())));
  PageTable table{integers({batch.sizes.sequences, widest}), integers({batch.sizes.tokens})};
  int32_t* slots = table.slots.host<int32_t>();
  int32_t* row = table.pages.host<int32_t>();
  for (const BatchSequence& s : sequences) {
    const int64_t end = s.cached + static_cast<int64_t>(s.tokens.size());
    check(group < s.pages.size() && static_cast<int64_t>(s.pages[group].size()) >= pages_for(end), "batch",
          "a sequence of {} tokens needs {} pages of {}, it has {}", end, pages_for(end), kPageTokens,
          group < s.pages.size() ? s.pages[group].size() : 0);
    const std::span<const int32_t> pages = s.pages[group];
    for (int64_t p = 0; p < widest; ++p) row[p] = p < pages_for(end) ? pages[static_cast<size_t>(p)] : -1;
    for (int64_t at = s.cached; at < end; ++at)
      *slots++ = row[at / kPageTokens] * kPageTokens + static_cast<int32_t>(at % kPageTokens);
    row += widest;
  }
  return table;
}

void move(Batch& batch, Device device) {
  for (Tensor* x : {&batch.tokens, &batch.positions, &batch.seq_start, &batch.context_len, &batch.logit_rows})
    *x = x->to(device);
  for (PageTable& table : batch.page_tables) table = {table.pages.to(device), table.slots.to(device)};
  for (RopeAngles& a : batch.rope) a = {a.cos.to(device), a.sin.to(device), a.rows.to(device), a.style};
}

}  // namespace

Batch make_batch(std::span<const BatchSequence> sequences, KVCache* cache, Device device) {
  check(!sequences.empty(), "batch", "no sequence given");
  Batch batch;
  Batch::Sizes& sizes = batch.sizes;
  sizes.sequences = std::ssize(sequences);
  for (const BatchSequence& s : sequences) {
    const auto count = static_cast<int64_t>(s.tokens.size());
    check(count > 0, "batch", "a sequence brings no new token");
    check(s.logits_from >= 0 && s.logits_from <= count, "batch", "logits from token {} of {}", s.logits_from, count);
    check(cache != nullptr || s.cached == 0, "batch", "{} cached tokens without a cache", s.cached);
    sizes.tokens += count;
    sizes.rows += count - s.logits_from;
    sizes.longest_context = std::max(sizes.longest_context, s.cached + count);
    sizes.most_new_tokens = std::max(sizes.most_new_tokens, count);
  }
  batch.tokens = integers({sizes.tokens});
  batch.positions = integers({sizes.tokens});
  batch.seq_start = integers({sizes.sequences + 1});
  batch.context_len = integers({sizes.sequences});
  batch.logit_rows = integers({sizes.rows});
  batch.cache = cache;

  int32_t *tokens = batch.tokens.host<int32_t>(), *positions = batch.positions.host<int32_t>();
  int32_t *starts = batch.seq_start.host<int32_t>(), *contexts = batch.context_len.host<int32_t>();
  int32_t* logit_rows = batch.logit_rows.host<int32_t>();
  int32_t row = 0;
  for (const BatchSequence& s : sequences) {
    *starts++ = row;
    *contexts++ = static_cast<int32_t>(s.cached + static_cast<int64_t>(s.tokens.size()));
    for (size_t i = 0; i < s.tokens.size(); ++i, ++row) {
      *tokens++ = s.tokens[i];
      *positions++ = static_cast<int32_t>(s.cached + static_cast<int64_t>(i));
      if (static_cast<int64_t>(i) >= s.logits_from) *logit_rows++ = row;
    }
  }
  *starts = row;

  batch.rope = angles_of(sequences, batch);
  if (cache != nullptr)
    for (size_t g = 0; g < cache->groups(); ++g) batch.page_tables.push_back(make_page_table(sequences, g, batch));
  move(batch, cache != nullptr ? cache->device() : device);
  return batch;
}

DecodeBatch::DecodeBatch(int64_t sequences, int64_t longest_context, KVCache& cache, RopeTable* rope) {
  const int64_t pages = pages_for(longest_context), groups = static_cast<int64_t>(cache.groups());
  on_host_ = integers({5 * sequences + 1 + groups * sequences * (pages + 1)});
  on_device_ = Tensor::empty(on_host_.shape(), DType::i32, cache.device());
  int64_t end = 0;
  const auto next = [&](Shape shape) {
    end += shape.elements();
    return on_device_.row_range(end - shape.elements(), end).view(shape);
  };
  batch_.sizes = {sequences, sequences, sequences, longest_context, 1};
  batch_.tokens = next({sequences});
  batch_.positions = next({sequences});
  batch_.seq_start = next({sequences + 1});
  batch_.context_len = next({sequences});
  batch_.logit_rows = next({sequences});
  for (int64_t g = 0; g < groups; ++g) {
    const Tensor table = next({sequences, pages});
    batch_.page_tables.push_back({table, next({sequences})});
  }
  batch_.cache = &cache;
  if (rope == nullptr) return;
  batch_.rope = rope->reach(0);
  for (RopeAngles& angles : batch_.rope) angles.rows = batch_.positions;
}

void DecodeBatch::fill(std::span<const BatchSequence> sequences) {
  const int64_t rows = batch_.sizes.sequences;
  check(std::ssize(sequences) <= rows, "batch", "{} sequences for {} rows", sequences.size(), rows);
  int32_t* to = on_host_.host<int32_t>();
  const auto column = [&](int32_t padding, auto value) {
    for (const BatchSequence& s : sequences) *to++ = static_cast<int32_t>(value(s));
    to = std::fill_n(to, rows - std::ssize(sequences), padding);
  };
  for (const BatchSequence& s : sequences) {
    check(s.tokens.size() == 1 && s.logits_from == 0 && s.cached < batch_.sizes.longest_context, "batch",
          "{} new tokens after {}, expected one of at most {}", s.tokens.size(), s.cached,
          batch_.sizes.longest_context);
    if (s.rope != nullptr) s.rope->reach(s.cached + 1);
  }
  column(0, [](const BatchSequence& s) { return s.tokens[0]; });
  column(0, [](const BatchSequence& s) { return s.cached; });
  std::iota(to, to + rows + 1, 0);
  to += rows + 1;
  column(0, [](const BatchSequence& s) { return s.cached + 1; });
  std::iota(to, to + rows, 0);
  to += rows;
  for (size_t g = 0; g < batch_.page_tables.size(); ++g) {
    const int64_t width = batch_.page_tables[g].pages.dim(1);
    for (const BatchSequence& s : sequences) {
      const int64_t used = pages_for(s.cached + 1);
      check(g < s.pages.size() && std::ssize(s.pages[g]) >= used, "batch", "a sequence of {} tokens needs {} pages",
            s.cached + 1, used);
      to = std::copy_n(s.pages[g].begin(), used, to);
      to = std::fill_n(to, width - used, -1);
    }
    to = std::fill_n(to, (rows - std::ssize(sequences)) * width, -1);
    column(-1, [&](const BatchSequence& s) {
      return s.pages[g][static_cast<size_t>(s.cached / kPageTokens)] * kPageTokens + s.cached % kPageTokens;
    });
  }
  on_device_.copy_from(on_host_);
}

}  // namespace lathe
