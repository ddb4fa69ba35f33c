// From what a user calls a model to its place on the disk (declared in checkpoint.h). Nothing is downloaded.
//
// The Hugging Face cache: <cache>/models--<org>--<name>/snapshots/<commit>/, and refs/<branch or tag>, a file that
// holds the commit (huggingface_hub documentation, "Understand caching").
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "config/family_config.h"
#include "config/nearest_name.h"
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
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})  // the latter is the former's older name
    if (const std::string cache = environment(name); !cache.empty()) return cache;
  if (const std::string home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "huggingface/hub";
  return fs::path(environment("HOME")) / ".cache/huggingface/hub";
}

// A name as a user writes it, cut into its parts.
struct ModelName {
  std::string organisation, name, revision;  // org/name@revision; revision empty: main
  std::string family, variant;               // family:size-variant[@revision]
};

// Parts become names of folders: nothing in them may lead elsewhere.
bool plain(const std::string& part) {
  return !part.empty() && part != "." && part != ".." && part.find('/') == part.npos;
}

std::optional<ModelName> parse_name(const std::string& text) {
  ModelName n;
  const size_t at = text.find('@');
  const std::string named = text.substr(0, at);
  if (at != text.npos) n.revision = text.substr(at + 1);
  if ((at != text.npos && n.revision.empty()) || n.revision.starts_with('/') ||
      n.revision.find("..") != n.revision.npos)
    return std::nullopt;
  if (const size_t colon = named.find(':'); colon != named.npos) {
    n.family = named.substr(0, colon);
    n.variant = named.substr(colon + 1);
    return plain(n.family) && plain(n.variant) ? std::optional(n) : std::nullopt;
  }
  const size_t slash = named.find('/');
  if (slash != named.npos) n.organisation = named.substr(0, slash);
  n.name = slash == named.npos ? named : named.substr(slash + 1);
  return (slash == named.npos || plain(n.organisation)) && plain(n.name) ? std::optional(n) : std::nullopt;
}

std::vector<fs::path> candidates(const ModelName& n) {
  std::vector<fs::path> paths;
  for (const fs::path& folder : model_folders()) {
    // A folder of files has no revisions: only one that names it will do.
    const std::string at = n.revision.empty() ? "" : "@" + n.revision;
    if (!n.family.empty()) {
      paths.push_back(folder / n.family / (n.variant + at));
      paths.push_back(folder / (n.family + "-" + n.variant + at));
      continue;
    }
    if (!n.organisation.empty()) paths.push_back(folder / n.organisation / (n.name + at));
    if (n.organisation.empty() || n.revision.empty()) paths.push_back(folder / (n.name + at));
  }
  return paths;
}

// The snapshot of a repository in the cache. `looked` is where it would be, and what of the repository is there.
std::optional<fs::path> cached_snapshot(const ModelName& n, std::string* looked) {
  const fs::path repository = hub_cache() / ("models--" + n.organisation + "--" + n.name);
  const std::string revision = n.revision.empty() ? "main" : n.revision;
  fs::path snapshot = repository / "snapshots" / revision;
  std::string commit;
  std::ifstream reference(repository / "refs" / revision);
  if (!present(snapshot) && reference >> commit && plain(commit)) snapshot = repository / "snapshots" / commit;
  if (present(snapshot)) return snapshot;
  std::vector<std::string> there;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(repository / "snapshots", ignored))
    there.push_back(entry.path().filename().string());
  std::sort(there.begin(), there.end());
  *looked = snapshot.string() + (there.empty() ? "" : fmt::format(" (there are {})", fmt::join(there, ", ")));
  return std::nullopt;
}

// Looks for the model and adds to `looked` where it was not.
std::optional<std::string> find_model(const ModelName& n, std::vector<std::string>& looked) {
  for (const fs::path& path : candidates(n)) {
    if (present(path)) return path.string();
    looked.push_back(path.string());
  }
  if (n.organisation.empty()) return std::nullopt;
  std::string place;
  if (const auto snapshot = cached_snapshot(n, &place)) return snapshot->string();
  looked.push_back(place);
  return std::nullopt;
}

// How to get a model that is not here.
std::string advice(const ModelName& n, FamilyConfigs families) {
  if (!n.organisation.empty())
    return fmt::format("hf download {}/{}{} puts it into the cache of the Hugging Face tools, where it is found",
                       n.organisation, n.name, n.revision.empty() ? "" : " --revision " + n.revision);
  std::vector<std::string> names;
  for (const FamilyConfig* family : families)
    for (const PublishedModels& models : family->published) names.push_back(models.name);
  const std::string& wanted = n.family.empty() ? n.name : n.family;
  if (const auto nearest = nearest_name(wanted, names))
    return fmt::format("did you mean {}:{}? lathe models lists the names", *nearest,
                       n.variant.empty() ? "SIZE" : n.variant);
  const std::string folder = n.family.empty() ? n.name : n.family + "-" + n.variant;
  return fmt::format("download its files into models/{}, or name a folder or a file that holds it", folder);
}

}  // namespace

std::string resolve_model(const std::string& model, FamilyConfigs families) {
  if (present(model)) return model;
  auto name = parse_name(model);
  if (!name || (name->organisation.empty() && (model.ends_with(".gguf") || model.ends_with(".safetensors"))))
    throw Error(fmt::format("load: {} does not exist", quote(model)),
                "name a folder, a .gguf or .safetensors file, org/name[@revision] or family:size-variant");
  std::vector<std::string> looked;
  if (const auto found = find_model(*name, looked)) return *found;
  if (!name->family.empty()) {
    if (const auto repository = find_repository(families, name->family, name->variant)) {
      const size_t slash = repository->find('/');
      name = ModelName{repository->substr(0, slash), repository->substr(slash + 1), name->revision, {}, {}};
      if (const auto found = find_model(*name, looked)) return *found;
    }
  }
  throw Error(fmt::format("load: the model {} is not here: looked for {}", quote(model), fmt::join(looked, ", ")),
              advice(*name, families));
}

}  // namespace lathe
