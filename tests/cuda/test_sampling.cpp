// Sampling on CUDA: the CPU's choices.
#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/sampling.h"
#include "tests/catch.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/kernel_data.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows of logits with some elements between them that nobody may touch.
struct LogitRows {
  int64_t vocabulary, stride;
  std::vector<float> logits;
  LogitRows(int64_t rows, int64_t vocabulary, float deviation, int64_t padding = 3)
      : vocabulary(vocabulary), stride(vocabulary + padding), logits(random_floats(rows * stride, 5, deviation)) {}
  std::span<float> row(int64_t i) {
    return std::span(logits).subspan(static_cast<size_t>(i * stride)).first(static_cast<size_t>(vocabulary));
  }
};

std::vector<int32_t> sampled_on_cpu(LogitRows logits, const std::vector<SamplingRow>& rows) {
  std::vector<int32_t> tokens(rows.size());
  kernel::sample(Cpu{}, tokens.data(), {logits.logits.data(), logits.stride}, rows.data(), std::ssize(rows),
                 logits.vocabulary);
  return tokens;
}
std::vector<int32_t> sampled_on_cuda(const LogitRows& given, const std::vector<SamplingRow>& rows) {
  LogitRows logits = given;
  DeviceSamplingRows on_device = for_device(rows);
  std::vector<int32_t> tokens(rows.size() + 2, -77);
  kernel::sample(Cuda{}, tokens.data() + 1, {logits.logits.data(), logits.stride}, on_device.rows.data(),
                 on_device.seen.data(), on_device.allowed.data(), std::ssize(rows), logits.vocabulary);
  CHECK((tokens.front() == -77 && tokens.back() == -77));
  CHECK(std::memcmp(logits.logits.data(), given.logits.data(), given.logits.size() * sizeof(float)) == 0);
  return {tokens.begin() + 1, tokens.end() - 1};
}

SamplingParameters parameters(double temperature, int64_t top_k, double top_p, double min_p) {
  SamplingParameters p;
  p.temperature = temperature, p.top_k = top_k, p.top_p = top_p, p.min_p = min_p;
  return p;
}

}  // namespace

TEST_CASE("CUDA draws the CPU's tokens under every filter") {
  // Borders of top_p and min_p and draws are random numbers here: one falls within 1e-7 of a sum once in millions.
  const SamplingParameters kinds[] = {
      parameters(1.0, 0, 1.0, 0.0),       parameters(0.7, 0, 1.0, 0.1),      parameters(0.6, 20, 0.95, 0.0),
      parameters(1.0, 0, 0.9, 0.0),       parameters(1.5, 0, 0.99, 0.02),    parameters(2.0, 3, 1.0, 0.0),
      parameters(1.0, 1, 1.0, 0.0),       parameters(0.01, 0, 0.5, 0.0),     parameters(50.0, 1500, 0.999, 0.5),
      parameters(1.0, 1 << 20, 0.8, 0.0), parameters(1.0, 0, 0.0, 0.0),      parameters(1e-300, 0, 0.9, 0.0),
      parameters(1e300, 0, 1.0, 0.0),     parameters(1.0, 1 << 20, 1.0, 0.0)};
  std::mt19937_64 random(7);
  for (const int64_t vocabulary : {1, 31, 700, 2101}) {
    std::vector<SamplingRow> rows;
    for (const SamplingParameters& kind : kinds) rows.push_back({kind, std::uniform_real_distribution<>()(random), {}});
    for (const size_t kind : {0, 3})
      for (const double border : {0.0, std::nextafter(1.0, 0.0)}) rows.push_back({kinds[kind], border, {}});
    const LogitRows logits(std::ssize(rows), vocabulary, 3.0f, vocabulary % 2 == 0 ? 4 : 0);
    INFO("vocabulary " << vocabulary);
    CHECK(sampled_on_cuda(logits, rows) == sampled_on_cpu(logits, rows));
  }
}

TEST_CASE("CUDA draws by id from more tokens than 32 for each of its sums") {
  std::vector<SamplingRow> rows;
  for (const double random : {0.02, 0.5, 0.97}) rows.push_back({parameters(1.0, 0, 1.0, 0.0), random, {}});
  const LogitRows logits(3, 70001, 1.0f);
  CHECK(sampled_on_cuda(logits, rows) == sampled_on_cpu(logits, rows));
}

TEST_CASE("ties go to the lowest id on CUDA, also where more tokens are equal than are gathered") {
  std::vector<SamplingRow> rows;
  for (const double random : {0.0, 0.3, 0.77, 0.9999}) {
    rows.push_back({parameters(1.0, 5, 1.0, 0.0), random, {}});
    rows.push_back({parameters(1.0, 1300, 1.0, 0.0), random, {}});
    rows.push_back({parameters(1.0, 0, 0.5, 0.0), random, {}});
    rows.push_back({parameters(1.0, 0, 1.0, 0.0), random, {}});
    rows.push_back({parameters(0.0, 0, 1.0, 0.0), random, {}});
  }
  LogitRows logits(std::ssize(rows), 1700, 1.0f);
  for (size_t i = 0; i < rows.size(); ++i)
    for (float& x : logits.row(static_cast<int64_t>(i))) x = i < 10 ? 0.25f : std::round(x);
  logits.row(0)[3] = -0.0f;
  std::fill_n(logits.row(10).begin(), 1700, 0.0f);
  for (int64_t i = 0; i < 1700; i += 2) logits.row(10)[static_cast<size_t>(i)] = -0.0f;
  CHECK(sampled_on_cuda(logits, rows) == sampled_on_cpu(logits, rows));
}

TEST_CASE("penalties on CUDA are the CPU's, and the logits are as before") {
  std::vector<TokenCount> history;
  for (int32_t i = 0; i < 650; ++i) history.push_back({i * 7 % 1000, i % 4});
  SamplingParameters greedy = parameters(0.0, 0, 1.0, 0.0), random = parameters(0.8, 40, 0.9, 0.0);
  for (SamplingParameters* p : {&greedy, &random})
    p->repetition_penalty = 1.3, p->presence_penalty = 0.5, p->frequency_penalty = -0.2;
  const std::vector<SamplingRow> rows = {
      {greedy, 0.0, history}, {random, 0.4, history}, {random, 0.9, std::span(history).first(3)}, {random, 0.1, {}}};
  LogitRows logits(4, 1000, 2.0f);
  logits.row(0)[7] = -kInfinity;
  logits.row(1)[14] = std::numeric_limits<float>::max();
  CHECK(sampled_on_cuda(logits, rows) == sampled_on_cpu(logits, rows));
}

// A negative logit is multiplied, tokens of the prompt alone lose no presence, and -inf stays.
TEST_CASE("a penalty on CUDA decides which token is chosen") {
  SamplingParameters greedy = parameters(0.0, 0, 1.0, 0.0), random = parameters(1.0, 0, 1.0, 0.0);
  greedy.repetition_penalty = random.repetition_penalty = 1.3, greedy.presence_penalty = 0.5;
  const std::vector<TokenCount> first{{0, 1}}, prompt{{0, 0}}, second{{1, 1}};
  const std::vector<SamplingRow> rows = {
      {greedy, 0.0, prompt}, {greedy, 0.0, prompt}, {greedy, 0.0, first}, {random, 0.9, second}};
  LogitRows logits(4, 3, 1.0f);
  const float most = std::numeric_limits<float>::max();
  const float values[4][3] = {{-1, -1.2f, -9}, {1, 0.6f, -9}, {1, 0.6f, -9}, {-most, -kInfinity, -kInfinity}};
  for (int64_t i = 0; i < 4; ++i) std::copy_n(values[i], 3, logits.row(i).begin());
  CHECK(sampled_on_cuda(logits, rows) == std::vector<int32_t>{1, 0, 1, 0});
  CHECK(sampled_on_cpu(logits, rows) == std::vector<int32_t>{1, 0, 1, 0});
}

TEST_CASE("CUDA chooses among the tokens that are allowed, with their biases, and leaves the logits as they are") {
  SamplingParameters greedy = parameters(0.0, 0, 1.0, 0.0), penalised = parameters(0.9, 50, 0.95, 0.0);
  penalised.repetition_penalty = 1.2;
  const SamplingParameters kinds[] = {greedy, penalised, parameters(1.0, 0, 1.0, 0.0), parameters(1.0, 0, 0.9, 0.01),
                                      parameters(2.0, 7, 1.0, 0.0)};
  const std::vector<TokenCount> history = {{3, 1, 0.5f}, {40, TokenCount::kUnseen, 9.0f}, {41, 0, -100.0f}, {900, 2}};
  for (const int64_t vocabulary : {1030, 2101}) {
    std::vector<std::vector<uint32_t>> bits;
    for (uint32_t of : {0xffffffffu, 0x80000001u, 0x00100200u, 0u})
      bits.emplace_back(static_cast<size_t>((vocabulary + 31) / 32), of);
    bits.emplace_back(bits.back())[1] = 1u << 8;  // token 40 alone
    std::vector<SamplingRow> rows;
    for (const SamplingParameters& kind : kinds)
      for (const auto& allowed : bits)
        for (const double random : {0.1, 0.8}) rows.push_back({kind, random, history, allowed});
    rows.push_back({greedy, 0.5, history, {}});
    const LogitRows logits(std::ssize(rows), vocabulary, 2.0f);
    const std::vector<int32_t> tokens = sampled_on_cuda(logits, rows);
    CHECK(tokens == sampled_on_cpu(logits, rows));
    for (size_t i = 0; i + 1 < rows.size(); ++i) {
      const auto word = static_cast<size_t>(std::max(tokens[i], 0)) / 32;
      CHECK((tokens[i] == kNoToken) == (rows[i].allowed[0] == 0 && rows[i].allowed[1] == 0));
      if (tokens[i] != kNoToken) CHECK((rows[i].allowed[word] >> tokens[i] % 32 & 1) == 1);
    }
  }
}

TEST_CASE("CUDA chooses no token where a logit is NaN or infinite, and none that is -inf") {
  const std::vector<SamplingRow> rows(5, {parameters(1.0, 0, 0.9, 0.0), 0.5, {}});
  LogitRows logits(5, 1030, 1.0f);
  logits.row(0)[1029] = std::numeric_limits<float>::quiet_NaN();
  logits.row(1)[0] = kInfinity;
  std::fill_n(logits.row(2).begin(), 1030, -kInfinity);
  std::fill_n(logits.row(3).begin(), 1030, -kInfinity);
  logits.row(3)[811] = -3.0f;
  const std::vector<int32_t> tokens = sampled_on_cuda(logits, rows);
  CHECK((tokens[0] == kNoToken && tokens[1] == kNoToken && tokens[2] == kNoToken && tokens[3] == 811));
  CHECK(tokens == sampled_on_cpu(logits, rows));
}

TEST_CASE("sampling on CUDA is the same in every schedule of its threads") {
  const std::vector<SamplingRow> rows = {{parameters(1.0, 30, 0.9, 0.0), 0.5, {}},
                                         {parameters(1.0, 0, 0.9, 0.01), 0.5, {}},
                                         {parameters(1.0, 0, 1.0, 0.0), 0.5, {}}};
  const LogitRows logits(3, 1100, 1.0f);
  const std::vector<int32_t> expected = sampled_on_cpu(logits, rows);
  simt::in_every_schedule([&] { CHECK(sampled_on_cuda(logits, rows) == expected); });
}

TEST_CASE("log-probabilities on CUDA: the CPU's most probable tokens, and their values") {
  for (const auto& [vocabulary, k] : {std::pair{1, 1}, {100, 7}, {2600, 20}, {2600, 2600}, {40, 0}}) {
    const int64_t rows = 3, top = k;
    LogitRows logits(rows, vocabulary, 3.0f);
    for (float& x : logits.row(1)) x = std::round(x);
    logits.row(2)[0] = vocabulary > 1 ? -kInfinity : 0.0f;
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < rows; ++i) tokens.push_back(static_cast<int32_t>((i + 1) * 37 % vocabulary));
    struct Found {
      Guarded chosen, values;
      std::vector<int32_t> ids;
    } expected{Guarded(rows), Guarded(rows * top), std::vector<int32_t>(static_cast<size_t>(rows * top))},
        found = expected;
    const ConstRows<float> of{logits.logits.data(), logits.stride};
    kernel::log_probabilities(Cpu{}, expected.chosen.data(), expected.ids.data(), expected.values.data(), of,
                              tokens.data(), rows, vocabulary, top);
    kernel::log_probabilities(Cuda{}, found.chosen.data(), found.ids.data(), found.values.data(), of, tokens.data(),
                              rows, vocabulary, top);
    CHECK((found.chosen.intact() && found.values.intact()));
    CHECK(found.ids == expected.ids);
    // Exponentials are rounded to f32, by 2^-23 of each, and so is the result, of at most 32.
    const auto close = [](float a, float b) { return a == b || std::abs(a - b) <= 0x1p-22f + 32 * 0x1p-24f; };
    for (int64_t i = 0; i < rows; ++i) CHECK(close(found.chosen[i], expected.chosen[i]));
    for (int64_t i = 0; i < rows * top; ++i) CHECK(close(found.values[i], expected.values[i]));
  }
}
