#include "generate/pooling.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/json_node.h"
#include "formats/strict_json.h"

namespace lathe {
namespace {

// llama.cpp's numbers.
enum GgufPooling : int64_t { kNone = 0, kMean = 1, kLast = 3 };

}  // namespace

Pooling parse_pooling(std::string_view name) {
  if (name == "mean") return Pooling::mean;
  if (name == "last") return Pooling::last;
  throw Error(fmt::format("pooling: expected \"mean\" or \"last\", found {}", quote(name)));
}

Pooling default_pooling(const Checkpoint& checkpoint) {
  if (checkpoint.gguf) {
    const std::string key = checkpoint.gguf->require<std::string>("general.architecture") + ".pooling_type";
    const int64_t type = checkpoint.gguf->get<int64_t>(key).value_or(kNone);
    check(type == kNone || type == kMean || type == kLast, "pooling",
          "{}: {} is {}; 1 (mean) and 3 (the last token) are supported", checkpoint.path, key, type);
    return type == kLast ? Pooling::last : Pooling::mean;
  }
  const std::string path = checkpoint.folder + "/1_Pooling/config.json";
  if (!std::filesystem::exists(path)) return Pooling::mean;
  const nlohmann::json json = read_strict_json(path);
  const JsonNode node(json, path);
  for (const auto& [key, value] : json.items())
    if (key.starts_with("pooling_mode_") && key != "pooling_mode_mean_tokens" && key != "pooling_mode_lasttoken" &&
        value == true)
      node.fail(key + " is not supported: mean and last token are");
  const bool last = node.boolean_or("pooling_mode_lasttoken", false);
  if (last && node.boolean_or("pooling_mode_mean_tokens", false))
    node.fail("mean and last token together are not supported");
  return last ? Pooling::last : Pooling::mean;
}

void PooledStates::add(const Tensor& states, int64_t position, Pooling pooling) {
  const Tensor host = states.to(Device{});
  pooled_.resize(static_cast<size_t>(host.dim(1)));
  for (int64_t row = std::max<int64_t>(0, tokens_ - position); row < host.dim(0); ++row) {
    const float* x = host.host<float>() + row * host.stride();
    for (size_t i = 0; i < pooled_.size(); ++i)
      pooled_[i] = pooling == Pooling::mean ? pooled_[i] + double{x[i]} : double{x[i]};
  }
  tokens_ = std::max(tokens_, position + host.dim(0));
}

std::vector<float> PooledStates::embedding() const {
  double squares = 0;
  for (const double x : pooled_) squares += x * x;
  if (!std::isfinite(squares) || squares == 0) return {};
  std::vector<float> unit;
  for (const double x : pooled_) unit.push_back(static_cast<float>(x / std::sqrt(squares)));
  return unit;
}

}  // namespace lathe
