// See shards.h.
#include "formats/shards.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/quote.h"
#include "formats/strict_json.h"
#include "tensor/errors.h"

namespace lathe {

using nlohmann::json;

std::vector<StoredTensor> read_shards(const std::string& index_path,
                                      std::vector<StoredTensor> (*read)(const std::string& path)) {
  const json index = read_strict_json(index_path);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  check(index.is_object() && map != index.end() && map->is_object(), "load",
        "{}: expected an object 'weight_map' of tensor names and shard files", index_path);

  std::map<std::string, std::vector<std::string>> shards;  // file -> the tensors that the index places there
  for (const auto& [tensor, shard] : map->items()) {
    check(shard.is_string(), "load", "{}: the shard of {} is {}, expected a file name", index_path, quote(tensor),
          shard.type_name());
    shards[shard.get<std::string>()].push_back(tensor);
  }
  const std::filesystem::path folder = std::filesystem::path(index_path).parent_path();
  std::vector<std::string> missing;
  for (const auto& [shard, names] : shards) {
    check(!shard.empty() && shard.find('/') == shard.npos && shard != "..", "load",
          "{}: the shard {} is no plain file name", index_path, quote(shard));
    std::error_code ignored;
    if (!std::filesystem::exists(folder / shard, ignored)) missing.push_back(shard);
  }
  check(missing.empty(), "load", "{}: shards that the index lists are missing: {}", index_path,
        fmt::join(missing, ", "));

  std::vector<StoredTensor> tensors;
  std::map<std::string, std::string, std::less<>> placed;  // tensor -> shard
  for (const auto& [shard, names] : shards) {
    for (StoredTensor& tensor : read((folder / shard).string())) {
      const auto [at, added] = placed.emplace(tensor.name, shard);
      check(added, "load", "{}: tensor {} is in two shards, {} and {}", index_path, quote(tensor.name), at->second,
            shard);
      tensors.push_back(std::move(tensor));
    }
    for (const std::string& name : names) {
      const auto found = placed.find(name);
      check(found != placed.end() && found->second == shard, "load",
            "{}: tensor {} is not in the shard {} that the index names", index_path, quote(name), shard);
    }
  }
  return tensors;
}

}  // namespace lathe
