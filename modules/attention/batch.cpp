// A batch is filled in the host's memory, then moved to the device of the cache.
#include "attention/batch.h"

#include <algorithm>
#include <cmath>

namespace lathe {
namespace {

constexpr Device kHost;  // where a batch is filled before it moves

Tensor integers(Shape shape) { return Tensor::empty(shape, DType::i32, kHost); }

// The angles of one token. Each is a product of two f32 values, as the references compute it; at long positions its
// rounding is what decides whether two implementations agree.
template <class T>
void fill_angles(std::span<const float> inverse, float factor, int32_t position, T* cos, T* sin) {
  for (const float frequency : inverse) {
    const double angle = static_cast<double>(static_cast<float>(position) * frequency);
    *cos++ = static_cast<T>(std::cos(angle) * static_cast<double>(factor));
    *sin++ = static_cast<T>(std::sin(angle) * static_cast<double>(factor));
  }
}

// `local`: of the layers with a window and a base of their own.
RopeAngles make_angles(std::span<const BatchSequence> sequences, const Batch& batch, DType dtype, bool local) {
  const RopeFrequencies& first = *sequences.front().rope;
  const auto half = static_cast<int64_t>(first.inverse.size());
  RopeAngles angles{Tensor::empty({batch.sizes.tokens, half}, dtype, kHost),
                    Tensor::empty({batch.sizes.tokens, half}, dtype, kHost), first.style};
  const int32_t* position = batch.positions.host<int32_t>();
  int64_t row = 0;
  for (const BatchSequence& s : sequences) {
    check(s.rope != nullptr && static_cast<int64_t>(s.rope->inverse.size()) == half &&
              s.rope->local.size() == first.local.size(),
          "batch", "every sequence needs the rope frequencies of the same model");
    const float factor = local ? 1.0f : s.rope->attention_factor;
    for (size_t i = 0; i < s.tokens.size(); ++i, ++row, ++position) {
      std::vector<float> own;
      if (!local && s.rope->behind && *position >= s.rope->text_length) own = s.rope->behind(*position);
      const std::span<const float> inverse(local ? s.rope->local : own.empty() ? s.rope->inverse : own);
      if (dtype == DType::f64)
        fill_angles(inverse, factor, *position, angles.cos.host<double>() + row * half,
                    angles.sin.host<double>() + row * half);
      else
        fill_angles(inverse, factor, *position, angles.cos.host<float>() + row * half,
                    angles.sin.host<float>() + row * half);
    }
  }
  return angles;
}

int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

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
  for (RopeAngles& angles : batch.rope) angles = {angles.cos.to(device), angles.sin.to(device), angles.style};
}

}  // namespace

Batch make_batch(std::span<const BatchSequence> sequences, KVCache* cache, DType dtype, Device device) {
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

  if (const RopeFrequencies* rope = sequences.front().rope; rope != nullptr) {
    batch.rope.push_back(make_angles(sequences, batch, dtype, false));
    if (!rope->local.empty()) batch.rope.push_back(make_angles(sequences, batch, dtype, true));
  }
  if (cache != nullptr)
    for (size_t g = 0; g < cache->groups(); ++g) batch.page_tables.push_back(make_page_table(sequences, g, batch));
  move(batch, cache != nullptr ? cache->device() : device);
  return batch;
}

}  // namespace lathe
