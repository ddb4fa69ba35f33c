// Philox and the two distributions made from it.
#include "tensor/random.h"

#include <cmath>

namespace lathe {
namespace {

struct Product {
  uint32_t high, low;
};
Product multiply(uint32_t a, uint32_t b) {
  const uint64_t p = static_cast<uint64_t>(a) * b;
  return {static_cast<uint32_t>(p >> 32), static_cast<uint32_t>(p)};
}

// Two numbers in [0, 1) from 53 bits each.
struct Pair {
  double first, second;
};
Pair uniform_pair(uint64_t key, uint64_t stream, uint64_t index) {
  const auto words = [](uint64_t v) { return std::array{static_cast<uint32_t>(v), static_cast<uint32_t>(v >> 32)}; };
  const auto s = words(stream), i = words(index);
  const auto r = philox(words(key), {i[0], i[1], s[0], s[1]});
  const auto unit = [](uint32_t low, uint32_t high) {
    return static_cast<double>((static_cast<uint64_t>(high) << 32 | low) >> 11) * 0x1p-53;
  };
  return {unit(r[0], r[1]), unit(r[2], r[3])};
}

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 2> key, std::array<uint32_t, 4> counter) {
  for (int round = 0; round < 10; ++round) {
    const Product a = multiply(0xD2511F53u, counter[0]), b = multiply(0xCD9E8D57u, counter[2]);
    counter = {b.high ^ counter[1] ^ key[0], b.low, a.high ^ counter[3] ^ key[1], a.low};
    key[0] += 0x9E3779B9u;  // the golden ratio
    key[1] += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return counter;
}

// FNV-1a of 64 bits (Fowler, Noll, Vo).
uint64_t random_stream(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

double random_uniform(uint64_t key, uint64_t stream, uint64_t index) { return uniform_pair(key, stream, index).first; }

double random_normal(uint64_t key, uint64_t stream, uint64_t index) {
  const auto [u, v] = uniform_pair(key, stream, index);
  return std::sqrt(-2 * std::log(1 - u)) * std::cos(6.28318530717958647693 * v);  // 1 - u is never 0
}

}  // namespace lathe
