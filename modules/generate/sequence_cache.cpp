#include "generate/sequence_cache.h"

#include <algorithm>

namespace lathe {
namespace {

constexpr int64_t kPassTokens = 512;  // bounds the activations, not the result: a chunk's bits are those of the whole

// Without windows: a fork may be shorter than the one before it, so pages behind a layer's window are kept.
std::vector<PageGroup> equal_groups(size_t groups, int64_t pages) {
  return std::vector<PageGroup>(groups, PageGroup{0, pages});
}

}  // namespace

SequenceCache::SequenceCache(const CausalLM& model, DType dtype, int64_t longest, int64_t pages)
    : model_(model),
      cache_(model.sizes, dtype, std::vector<int64_t>(layer_groups(model.sizes).size(), pages), model.device()),
      blocks_(equal_groups(cache_.groups(), pages)),
      ropes_(model.config, longest, DType::f32, model.device()) {}

CachedSequence SequenceCache::begin(int64_t text_length) {
  CachedSequence s;
  s.rope = ropes_.of(text_length);
  return s;
}

Tensor SequenceCache::extend(std::span<const Extension> extensions) {
  int64_t rows = 0;
  for (const Extension& e : extensions) rows += std::ssize(e.tokens);
  Tensor all;  // (N, C)
  int64_t row = 0, done = 0;
  for (size_t at = 0; row < rows;) {
    std::vector<BatchSequence> pieces;
    int64_t tokens = 0;
    while (at < extensions.size() && tokens < kPassTokens) {
      const int64_t left = std::ssize(extensions[at].tokens) - done, count = std::min(left, kPassTokens - tokens);
      if (count > 0) pieces.push_back(next_piece(extensions[at], done, count));
      tokens += count;
      done = count == left ? 0 : done + count;
      at += count == left;
    }
    Tensor hidden = model_.hidden(make_batch(pieces, &cache_));  // (tokens, C)
    if (tokens == rows) return hidden;
    if (!all.defined()) all = Tensor::empty({rows, hidden.dim(1)}, hidden.dtype(), hidden.device());
    all.row_range(row, row + tokens).copy_from(hidden);
    row += tokens;
  }
  return all;
}

bool SequenceCache::reserve(CachedSequence& s, int64_t count) {
  std::vector<PageCopy> copies;
  if (!blocks_.reserve(s.pages, s.length, s.length + count, copies)) return false;
  for (const PageCopy& copy : copies) cache_.copy_page(copy.group, copy.from, copy.to);
  return true;
}

// Tokens [begin, begin + count) of an extension, its sequence grown by them.
BatchSequence SequenceCache::next_piece(const Extension& extension, int64_t begin, int64_t count) {
  CachedSequence& s = *extension.sequence;
  check(reserve(s, count), "cache", "too few pages for {} more tokens after {}", count, s.length);
  BatchSequence piece;
  piece.tokens = extension.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
  piece.cached = s.length;
  piece.pages.assign(s.pages.begin(), s.pages.end());
  piece.rope = s.rope.get();
  s.length += count;
  return piece;
}

CachedSequence SequenceCache::fork(const CachedSequence& source, int64_t length) {
  CachedSequence target;
  target.rope = source.rope;
  if (length == 0) return target;
  check(length <= source.length && blocks_.fork(source.pages, length, target.pages), "cache",
        "a fork of {} tokens from a sequence of {}", length, source.length);
  target.length = length;
  return target;
}

void SequenceCache::release(CachedSequence& sequence) {
  blocks_.release(sequence.pages);
  sequence = {};
}

Tensor all_logits(const CausalLM& model, std::span<const int32_t> tokens, DType cache_dtype) {
  const int64_t n = std::ssize(tokens), width = model.sizes.vocab_size;
  check(n > 0, "logits", "expected at least one token, found none");
  SequenceCache cache(model, cache_dtype, n, pages_for(n));
  CachedSequence text = cache.begin(n);
  Tensor all = Tensor::empty({n, width});  // (N, V)
  while (text.length < n) {
    const int64_t begin = text.length, count = std::min(kPassTokens, n - begin);
    const SequenceCache::Extension next{&text, tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(count))};
    all.row_range(begin, begin + count).copy_from(apply_head(cache.extend({&next, 1}), model.head()));
  }
  return all;
}

}  // namespace lathe
