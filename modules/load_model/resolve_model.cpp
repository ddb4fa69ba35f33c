// From what a user calls a model to its place on the disk (declared in checkpoint.h). Nothing is downloaded.
//
// The Hugging Face cache: <cache>/models--<org>--<name>/snapshots/<commit>/, and refs/<branch or tag>, a file that
// holds the commit (huggingface_hub documentation, "Understand caching").
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "formats/quote.h"
#include "load_model/checkpoint.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// models/ and the folders of $LATHE_MODELS.
std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders = {"models"};
  const std::string list = environment("LATHE_MODELS");
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(':', begin), list.size());
    if (end > begin) folders.emplace_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return folders;
}

fs::path hub_cache() {
  if (const std::string cache = environment("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "huggingface/hub";
  return fs::path(environment("HOME")) / ".cache/huggingface/hub";
}

// A name as a user writes it, cut into its parts.
struct ModelName {
  std::string organisation, name, revision;  // org/name@revision; revision empty: main
  std::string family, variant;               // family:size-variant
};

// Parts become names of folders: nothing in them may lead elsewhere.
bool plain(const std::string& part) {
  return !part.empty() && part != "." && part != ".." && part.find('/') == part.npos;
}

std::optional<ModelName> parse_name(const std::string& text) {
  ModelName n;
  if (const size_t colon = text.find(':'); colon != text.npos) {
    n.family = text.substr(0, colon);
    n.variant = text.substr(colon + 1);
    return plain(n.family) && plain(n.variant) ? std::optional(n) : std::nullopt;
  }
  const size_t at = text.find('@');
  const std::string repository = text.substr(0, at);
  if (at != text.npos) n.revision = text.substr(at + 1);
  if (const size_t slash = repository.find('/'); slash != repository.npos) {
    n.organisation = repository.substr(0, slash);
    n.name = repository.substr(slash + 1);
    if (!plain(n.organisation)) return std::nullopt;
  } else {
    n.name = repository;
  }
  return plain(n.name) && (at == text.npos || !n.revision.empty()) && n.revision.find("..") == n.revision.npos
             ? std::optional(n)
             : std::nullopt;
}

std::vector<fs::path> candidates(const ModelName& n) {
  std::vector<fs::path> paths;
  for (const fs::path& folder : model_folders()) {
    if (!n.family.empty()) {
      paths.push_back(folder / n.family / n.variant);
      paths.push_back(folder / (n.family + "-" + n.variant));
    } else if (n.organisation.empty()) {
      paths.push_back(folder / n.name);
    } else if (n.revision.empty()) {
      paths.push_back(folder / n.organisation / n.name);
      paths.push_back(folder / n.name);
    } else {  // a folder of files has no revisions: only one that names it will do
      paths.push_back(folder / n.organisation / (n.name + "@" + n.revision));
    }
  }
  return paths;
}

// The snapshot of a repository in the cache; `looked` is where it would be.
std::optional<fs::path> cached_snapshot(const ModelName& n, fs::path* looked) {
  const fs::path repository = hub_cache() / ("models--" + n.organisation + "--" + n.name);
  const std::string revision = n.revision.empty() ? "main" : n.revision;
  *looked = repository / "snapshots" / revision;
  if (present(*looked)) return *looked;
  std::ifstream reference(repository / "refs" / revision);
  std::string commit;
  if (!(reference >> commit) || !plain(commit)) return std::nullopt;
  *looked = repository / "snapshots" / commit;
  return present(*looked) ? std::optional(*looked) : std::nullopt;
}

}  // namespace

std::string resolve_model(const std::string& model) {
  if (present(model)) return model;
  const auto name = parse_name(model);
  if (!name || (name->organisation.empty() && (model.ends_with(".gguf") || model.ends_with(".safetensors"))))
    throw Error(fmt::format("load: {} does not exist", quote(model)),
                "name a folder, a .gguf or .safetensors file, org/name[@revision] or family:size-variant");
  std::vector<std::string> looked;
  for (const fs::path& path : candidates(*name)) {
    if (present(path)) return path.string();
    looked.push_back(path.string());
  }
  if (!name->organisation.empty()) {
    fs::path place;
    if (const auto snapshot = cached_snapshot(*name, &place)) return snapshot->string();
    looked.push_back(place.string());
  }
  const std::string folder = name->family.empty() ? name->name : name->family + "-" + name->variant;
  throw Error(fmt::format("load: the model {} is not here: looked for {}", quote(model), fmt::join(looked, ", ")),
              fmt::format("download its files into models/{}, or name a folder or a file that holds it", folder));
}

}  // namespace lathe
