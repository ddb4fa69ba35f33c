// The names that published models go by, `family:size-variant`, and the repositories behind them; each family's file
// has its own, one line a generation (several may share a name). Only repositories whose class is registered are named.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/model_sizes.h"

namespace lathe {

struct PublishedVariant {
  std::string name;        // "base", "instruct", "chat", "reasoning", "embedding", or the publisher's own word
  std::string repository;  // on the Hugging Face hub; {size} is the size as the publisher spells it
};

struct PublishedModels {
  std::string name;                        // what stands before the colon: "llama3.2"
  std::vector<std::string> sizes;          // as in the repositories' names; upper and lower case are one to a user
  std::vector<PublishedVariant> variants;  // the first is meant where a name says none
};

// The name in lower case and its repository, of every size and variant of an entry.
struct PublishedName {
  std::string name, repository;
};
std::vector<PublishedName> names_of(const PublishedModels& models);

// The repository of `family:size` or `family:size-variant`; nothing where no entry of the families has the name
// `family`. Throws Error that lists the names there are where one has, but not this size or variant.
std::optional<std::string> find_repository(FamilyConfigs families, std::string_view family,
                                           std::string_view size_and_variant);

}  // namespace lathe
