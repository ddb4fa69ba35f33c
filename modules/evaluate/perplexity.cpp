#include "evaluate/perplexity.h"

#include <algorithm>
#include <cmath>

#include "evaluate/token_scores.h"
#include "generate/sequence_cache.h"

namespace lathe {
namespace {

constexpr int64_t kGroupTokens = 512;  // short windows go through the model together

// Mean and deviation of a stream of numbers (Welford 1962): sums of squares would cancel.
class RunningMean {
 public:
  void add(double x) {
    ++count_;
    const double difference = x - mean_;
    mean_ += difference / static_cast<double>(count_);
    squares_ += difference * (x - mean_);
  }
  int64_t count() const { return count_; }
  Estimate estimate() const {
    const auto n = static_cast<double>(count_);
    return {mean_, count_ > 1 ? std::sqrt(squares_ / (n - 1.0) / n) : std::nan("")};
  }

 private:
  int64_t count_ = 0;
  double mean_ = 0.0, squares_ = 0.0;
};

Estimate exponential(const Estimate& mean) {
  const double value = std::exp(mean.value);
  return {value, value * mean.standard_error};
}

// Between the neighbours of rank q (n - 1), linearly, as NumPy has it.
double percentile(const std::vector<float>& sorted, double q) {
  const double rank = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank), above = std::min(below + 1, sorted.size() - 1);
  const double share = rank - static_cast<double>(below);
  return (1.0 - share) * static_cast<double>(sorted[below]) + share * static_cast<double>(sorted[above]);
}

// What has been measured so far.
struct Totals {
  RunningMean loss, reference_loss, divergence, same_top;
  std::vector<float> divergences;

  void add(const ComparedToken& token) {
    loss.add(-token.log_probability);
    reference_loss.add(-token.reference_log_probability);
    divergence.add(token.divergence);
    divergences.push_back(static_cast<float>(token.divergence));
    same_top.add(token.same_top ? 1.0 : 0.0);
  }
  void write(PerplexityReport& report) const {
    report.tokens_counted = loss.count();
    report.negative_log_likelihood = loss.estimate();
    report.perplexity = exponential(report.negative_log_likelihood);
  }
  PerplexityReport::Comparison comparison() const {
    std::vector<float> sorted = divergences;
    std::sort(sorted.begin(), sorted.end());
    return {exponential(reference_loss.estimate()),
            divergence.estimate(),
            percentile(sorted, 0.5),
            percentile(sorted, 0.9),
            percentile(sorted, 0.99),
            static_cast<double>(sorted.back()),
            same_top.estimate()};
  }
};

// One model's windows, each fed to a sequence of its own.
class WindowFeed {
 public:
  WindowFeed(const ScoredModel& scored, int64_t context, int64_t windows)
      : model(*scored.model), cache_(model, scored.cache_dtype, context, windows * pages_for(context)) {}

  // The hidden states of `rows` of the windows' tokens, counted over all windows: (R, C).
  Tensor hidden(const std::vector<std::vector<int32_t>>& windows, const Tensor& rows) {
    std::vector<CachedSequence> sequences;
    for (const auto& window : windows) sequences.push_back(cache_.begin(std::ssize(window)));
    std::vector<SequenceCache::Extension> extensions;
    for (size_t i = 0; i < windows.size(); ++i) extensions.push_back({&sequences[i], windows[i]});
    const Tensor all = cache_.extend(extensions);
    for (CachedSequence& s : sequences) cache_.release(s);
    return select_rows(all, rows.to(all.device()));
  }
  const CausalLM& model;

 private:
  SequenceCache cache_;
};

// Some windows of a text, and the rows of their tokens that predict a counted one.
struct Group {
  std::vector<std::vector<int32_t>> windows;
  std::vector<int32_t> rows, targets;

  void add(std::span<const int32_t> ids, const TextWindow& w, std::optional<int32_t> bos) {
    int32_t first_row = 0;
    for (const auto& window : windows) first_row += static_cast<int32_t>(window.size());
    windows.emplace_back(ids.begin() + w.begin, ids.begin() + w.end);
    if (bos) windows.back().front() = *bos;
    for (int64_t at = w.first_counted; at < w.end; ++at) {
      rows.push_back(first_row + static_cast<int32_t>(at - 1 - w.begin));
      targets.push_back(ids[static_cast<size_t>(at)]);
    }
  }
};

void measure_group(const Group& group, WindowFeed& feed, std::optional<WindowFeed>& reference, Totals& totals) {
  const Tensor rows = Tensor::of<int32_t>({std::ssize(group.rows)}, group.rows.data());  // (R)
  const Tensor hidden = feed.hidden(group.windows, rows);                                // (R, C)
  if (reference) {
    const Tensor other = reference->hidden(group.windows, rows);  // (R, C')
    for (const ComparedToken& t : compare_tokens(feed.model, hidden, reference->model, other, group.targets))
      totals.add(t);
  } else {
    for (const double x : target_log_probabilities(feed.model, hidden, group.targets)) totals.loss.add(-x);
  }
}

void check_ids(std::span<const int32_t> ids, const CausalLM& model) {
  for (size_t i = 0; i < ids.size(); ++i)
    check(ids[i] >= 0 && ids[i] < model.sizes.vocab_size, "perplexity",
          "id {} at position {} of the text is outside the model's vocabulary [0, {})", ids[i], i,
          model.sizes.vocab_size);
}

}  // namespace

std::vector<TextWindow> text_windows(int64_t tokens, const PerplexityOptions& o) {
  const bool halves = o.protocol == PerplexityProtocol::llama_cpp;
  if (o.context < 2) throw UsageError(fmt::format("--context: a window needs at least 2 tokens, found {}", o.context));
  if (o.stride < 1 || o.stride > o.context)
    throw UsageError(fmt::format("--stride: expected 1 to {} (the window), found {}", o.context, o.stride));
  if (halves && o.stride != o.context)
    throw UsageError(
        fmt::format("--stride: llama.cpp's protocol has disjoint windows of {}, found {}", o.context, o.stride));
  check(tokens >= 2, "perplexity", "the text has {} token{}, at least 2 are needed: the first one is not predicted",
        tokens, tokens == 1 ? "" : "s");
  check(!halves || tokens >= o.context, "perplexity",
        "the text has {} tokens, llama.cpp's protocol needs whole windows of {}", tokens, o.context);
  check(!halves || o.context > 2, "perplexity", "the second half of a window of 2 tokens has none to count");
  std::vector<TextWindow> windows;
  int64_t counted = 0;  // ids before it are behind us
  for (int64_t begin = 0; counted < tokens; begin += o.stride) {
    const int64_t end = std::min(begin + o.context, tokens);
    if (halves && end - begin < o.context) break;
    const int64_t first = halves ? begin + o.context / 2 + 1 : std::max(begin + 1, counted);
    if (first < end) windows.push_back({begin, end, first});
    counted = end;
  }
  return windows;
}

PerplexityReport measure_perplexity(const ScoredModel& model, const std::optional<ScoredModel>& reference,
                                    std::span<const int32_t> ids, const PerplexityOptions& options,
                                    const PerplexityProgress& progress) {
  const std::vector<TextWindow> windows = text_windows(std::ssize(ids), options);
  check_ids(ids, *model.model);
  if (reference)
    check(reference->model->sizes.vocab_size == model.model->sizes.vocab_size, "perplexity",
          "the models have vocabularies of {} and {} tokens, they must be equal", model.model->sizes.vocab_size,
          reference->model->sizes.vocab_size);
  PerplexityReport report;
  report.windows_in_text = std::ssize(windows);
  const size_t count =
      options.limit > 0 ? std::min(windows.size(), static_cast<size_t>(options.limit)) : windows.size();
  const auto together = static_cast<size_t>(std::max<int64_t>(1, kGroupTokens / options.context));
  const int64_t longest = std::min<int64_t>(options.context, std::ssize(ids));
  WindowFeed feed(model, longest, static_cast<int64_t>(together));
  std::optional<WindowFeed> other;
  if (reference) other.emplace(*reference, longest, static_cast<int64_t>(together));
  Totals totals;
  for (size_t at = 0; at < count && !report.interrupted; at += together) {
    Group group;
    for (size_t i = at; i < std::min(at + together, count); ++i) group.add(ids, windows[i], options.bos);
    measure_group(group, feed, other, totals);
    report.windows += std::ssize(group.windows);
    totals.write(report);
    report.interrupted = progress && !progress(report) && at + together < count;
  }
  if (reference) report.comparison = totals.comparison();
  return report;
}

}  // namespace lathe
