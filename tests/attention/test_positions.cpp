// ALiBi's slopes and the rotary frequencies against the published arithmetic, written out once more.
#include <cmath>

#include "attention/alibi.h"
#include "attention/batch.h"
#include "config/model_config.h"
#include "tests/catch.h"

using namespace lathe;

namespace {

ModelConfig rotary(int64_t dim, double theta) {
  ModelConfig c;
  c.head_dim = c.rotary_dim = dim;
  c.rope_theta = theta;
  c.max_position_embeddings = 4096;
  return c;
}

// 1 / theta^(2i/R), as f32.
std::vector<float> plain(int64_t dim, double theta) {
  std::vector<float> f;
  for (int64_t i = 0; i < dim; i += 2)
    f.push_back(static_cast<float>(1.0 / std::pow(theta, static_cast<double>(i) / static_cast<double>(dim))));
  return f;
}

void check_close(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Catch::Approx(want[i]).epsilon(1e-6));
}

}  // namespace

TEST_CASE("alibi: the slopes of Press et al. 2022, and between the powers of two") {
  check_close(alibi_slopes(8), {1.0f / 2, 1.0f / 4, 1.0f / 8, 1.0f / 16, 1.0f / 32, 1.0f / 64, 1.0f / 128, 1.0f / 256});
  check_close(alibi_slopes(1), {1.0f / 256});
  // Twelve heads: the eight of above, then every other one of sixteen.
  const float r = std::sqrt(0.5f);
  check_close(alibi_slopes(12), {1.0f / 2, 1.0f / 4, 1.0f / 8, 1.0f / 16, 1.0f / 32, 1.0f / 64, 1.0f / 128, 1.0f / 256,
                                 r, r / 2, r / 4, r / 8});
  check_close(alibi_slopes(3), {1.0f / 16, 1.0f / 256, 1.0f / 4});
  check_close(alibi_slopes(2, 16.0), {1.0f / 256, 1.0f / 65536});  // MPT StoryWriter
}

TEST_CASE("rope: layers with a window may have a base of their own, which no scaling touches") {
  ModelConfig c = rotary(8, 1e6);
  c.rope_scaling = RopeScaling::linear;
  c.rope_factor = 8.0;
  CHECK(rope_frequencies(c, 100).local.empty());
  c.rope_local_theta = 1e4;
  const RopeFrequencies f = rope_frequencies(c, 100);
  std::vector<float> global = plain(8, 1e6);
  for (float& x : global) x /= 8.0f;
  check_close(f.inverse, global);
  check_close(f.local, plain(8, 1e4));
}

TEST_CASE("rope: longrope takes its long factors beyond the original context") {
  ModelConfig c = rotary(8, 1e4);
  c.rope_scaling = RopeScaling::longrope;
  c.rope_original_max_position = 1024;
  c.rope_factor = 4.0;
  c.rope_short_factor = {1.0, 1.5, 2.0, 2.5};
  c.rope_long_factor = {1.0, 4.0, 16.0, 64.0};
  const auto divided = [&](const std::vector<double>& factors) {
    std::vector<float> f = plain(8, 1e4);
    for (size_t i = 0; i < f.size(); ++i) f[i] /= static_cast<float>(factors[i]);
    return f;
  };
  check_close(rope_frequencies(c, 1024).inverse, divided(c.rope_short_factor));
  check_close(rope_frequencies(c, 1025).inverse, divided(c.rope_long_factor));
  // sqrt(1 + ln 4 / ln 1024) = sqrt(1 + 2 / 10); it does not depend on the length.
  CHECK(rope_frequencies(c, 1).attention_factor == Catch::Approx(std::sqrt(1.2)).epsilon(1e-6));
  CHECK(rope_frequencies(c, 4096).attention_factor == Catch::Approx(std::sqrt(1.2)).epsilon(1e-6));
  c.rope_attention_factor = 1.19;
  CHECK(rope_frequencies(c, 1).attention_factor == 1.19f);
}

TEST_CASE("rope: yarn's attention factor, its three spellings") {
  ModelConfig c = rotary(8, 1e4);
  c.rope_scaling = RopeScaling::yarn;
  c.rope_original_max_position = 1024;
  c.rope_factor = 8.0;
  const auto factor = [&] { return static_cast<double>(rope_frequencies(c, 1).attention_factor); };
  CHECK(factor() == Catch::Approx(0.1 * std::log(8.0) + 1.0));
  c.rope_mscale = 0.707;
  CHECK(factor() == Catch::Approx(0.1 * std::log(8.0) + 1.0));  // one of the two alone counts for nothing
  c.rope_mscale_all_dim = 1.0;
  CHECK(factor() == Catch::Approx((0.0707 * std::log(8.0) + 1.0) / (0.1 * std::log(8.0) + 1.0)));
  c.rope_attention_factor = 1.5;
  CHECK(factor() == 1.5);
}

TEST_CASE("rope: the steps in which Qwen's base grows") {
  ModelConfig c = rotary(16, 1e4);
  c.rope_scaling = RopeScaling::qwen;
  c.rope_original_max_position = 2048;
  // get_ntk_alpha of the published code: 2^ceil(log2(length / 2048) + 1) - 1, at least 1.
  for (const auto& [length, alpha] : {std::pair{100, 1.0}, {2048, 1.0}, {2049, 3.0}, {4096, 3.0}, {4097, 7.0}})
    check_close(rope_frequencies(c, length).inverse, plain(16, 1e4 * std::pow(alpha, 16.0 / 14.0)));
}

namespace {

ModelConfig dynamic() {
  ModelConfig c = rotary(8, 1e4);
  c.rope_scaling = RopeScaling::dynamic;
  c.rope_factor = 2.0;
  c.max_position_embeddings = 24;
  return c;
}

// The angles of a position by the frequencies of a text, as cos and sin.
void check_row(const RopeAngles& table, int64_t row, int64_t position, const std::vector<float>& inverse) {
  for (size_t i = 0; i < inverse.size(); ++i) {
    const auto angle = static_cast<double>(static_cast<float>(position) * inverse[i]);
    const int64_t at = row * std::ssize(inverse) + static_cast<int64_t>(i);
    CHECK(table.cos.data<float>()[at] == static_cast<float>(std::cos(angle)));
    CHECK(table.sin.data<float>()[at] == static_cast<float>(std::sin(angle)));
  }
}

}  // namespace

TEST_CASE("rope: a table has the angles of each position, with dynamic scaling of the text that it ends") {
  const ModelConfig c = dynamic();
  RopeTable table(rope_frequencies(c, 30), 200);
  for (const int64_t end : {31, 32, 100, 200}) {
    const RopeAngles& angles = table.reach(end).at(0);
    for (const int64_t position : {int64_t{0}, int64_t{29}, int64_t{30}, end - 1})
      check_row(angles, position, position, rope_frequencies(c, std::max<int64_t>(30, position + 1)).inverse);
  }
  CHECK_THROWS_WITH(table.reach(201), Catch::Matchers::ContainsSubstring("201 tokens, the table has 200 positions"));
}

TEST_CASE("rope: texts with the same frequencies share a table, and a batch of others takes the rows of each") {
  const ModelConfig c = dynamic();
  RopeTables tables(c, 64);
  const auto first = tables.of(10), other = tables.of(30);
  CHECK(tables.of(24) == first);
  CHECK(tables.of(30) == other);
  CHECK(other != first);
  const std::vector<int32_t> tokens = {1, 2, 3};
  const BatchSequence near{tokens, 0, {}, first.get(), 0}, far{tokens, 0, {}, other.get(), 0};
  const Batch alike = make_batch(std::vector{near, near}, nullptr), mixed = make_batch(std::vector{near, far}, nullptr);
  CHECK(alike.rope[0].cos.raw() == first->reach(3)[0].cos.raw());
  CHECK(alike.rope[0].rows.raw() == alike.positions.raw());
  for (int64_t token = 0; token < 6; ++token) {
    const int64_t row = mixed.rope[0].rows.data<int32_t>()[token];
    check_row(mixed.rope[0], row, token % 3, (token < 3 ? first : other)->frequencies.inverse);
  }
}
