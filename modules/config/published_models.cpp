// See published_models.h.
#include "config/published_models.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/family_config.h"
#include "config/nearest_name.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string fill_size(std::string pattern, const std::string& size) {
  constexpr std::string_view kPlace = "{size}";
  if (const size_t at = pattern.find(kPlace); at != std::string::npos) pattern.replace(at, kPlace.size(), size);
  return pattern;
}

}  // namespace

std::vector<PublishedName> names_of(const PublishedModels& models) {
  std::vector<PublishedName> names;
  for (const std::string& size : models.sizes)
    for (const PublishedVariant& v : models.variants)
      names.push_back({models.name + ":" + lower(size) + "-" + v.name, fill_size(v.repository, size)});
  return names;
}

std::optional<std::string> find_repository(FamilyConfigs families, std::string_view family,
                                           std::string_view size_and_variant) {
  const std::string wanted = lower(family) + ":" + lower(size_and_variant);
  std::vector<std::string> known;
  for (const FamilyConfig* config : families)
    for (const PublishedModels& models : config->published) {
      if (models.name != lower(family)) continue;
      for (const std::string& size : models.sizes)
        if (wanted == models.name + ":" + lower(size)) return fill_size(models.variants[0].repository, size);
      for (const PublishedName& named : names_of(models)) {
        if (named.name == wanted) return named.repository;
        known.push_back(named.name);
      }
    }
  if (known.empty()) return std::nullopt;
  const auto nearest = nearest_name(wanted, known);
  throw Error(fmt::format("load: {} is no published model, expected one of {}", quote(wanted), fmt::join(known, ", ")),
              nearest ? fmt::format("did you mean {}?", *nearest) : "");
}

}  // namespace lathe
