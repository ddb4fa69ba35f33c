#include "train/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/atomic_file.h"
#include "formats/safetensors.h"
#include "formats/strict_json.h"
#include "llm/tensor_parallel.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// What elements of the arena have: values of all of them, or of some, with one value for `share` of them.
struct Layout {
  int64_t first, last, share;
  bool has(const ParameterArena::Slice& s) const { return first <= s.begin && s.begin < last; }
  // Of a slice's values the first, and how they are stored.
  int64_t begin(const ParameterArena::Slice& s) const { return (s.begin - first) / share; }
  Shape shape(const ParameterArena::Slice& s) const {
    if (share == 1) return s.parameter->shape;
    const int64_t blocks = s.room / kStateBlock;
    return share == kStateBlock ? Shape{blocks} : Shape{blocks, kStateBlock / share};
  }
};

// A tensor of that layout, by parameter: on the first of the ranks that share weights out all rows of each.
NamedTensors slices_of(const ParameterArena& arena, const Tensor& flat, const Layout& layout,
                       const std::string& prefix) {
  NamedTensors tensors;
  for (const ParameterArena::Slice& s : arena.slices()) {
    if (!layout.has(s)) continue;
    const Shape shape = layout.shape(s);
    const int64_t begin = layout.begin(s);
    tensors.emplace_back(prefix + s.name,
                         gather_rows(*s.parameter, flat.row_range(begin, begin + shape.elements()).view(shape)));
  }
  return tensors;
}

Layout layout_of(const ParameterArena& arena) { return {0, arena.size(), 1}; }
Layout layout_of(const Optimizer::State& state) { return {state.first, state.last, state.share}; }

// Whether a rank takes part in writing tensors: the first one does, and those that have some rows.
bool gives_tensors(const Trainer& trainer) { return trainer.ranks().is_first() || trainer.shares_weights(); }

NamedTensors weights_of(const Trainer& trainer) {
  if (!gives_tensors(trainer)) return {};
  const ParameterArena& arena = trainer.arena();
  return slices_of(arena, arena.values().to(Device{}), layout_of(arena), "");
}

// Of all ranks, on the first of them; they are gathered whole, as they do not depend on how many ranks there are.
NamedTensors states_of(const Trainer& trainer) {
  NamedTensors all;
  for (const Optimizer::State& state : trainer.optimizer().states()) {
    const Tensor whole = trainer.optimizer().whole(state);
    if (!gives_tensors(trainer)) continue;
    NamedTensors part = slices_of(trainer.arena(), whole, layout_of(state), state.name + "/");
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

// Elements [begin, begin + size) of a stored tensor, and where they belong.
struct ReadPart {
  std::string name;
  Shape shape;
  int64_t begin;
  Tensor target;  // (size)
};

// What this rank keeps of a tensor of that layout: `flat`, the values from the arena's element `element` on.
void add_parts(std::vector<ReadPart>& parts, const ParameterArena& arena, const Tensor& flat, const Layout& layout,
               int64_t element, const std::string& prefix) {
  const int64_t begin = (element - layout.first) / layout.share, end = begin + flat.elements();
  for (const ParameterArena::Slice& s : arena.slices()) {
    if (!layout.has(s)) continue;
    const Parameter& p = *s.parameter;
    const Shape shape = layout.shape(s);
    const int64_t first = layout.begin(s);
    const int64_t from = std::clamp(first, begin, end), to = std::clamp(first + shape.elements(), begin, end);
    const int64_t of_others =
        p.first_row() * (p.shape.elements() / p.shape[0]);  // of ranks that have rows before these
    parts.push_back({prefix + s.name, p.is_part() ? p.whole_shape() : shape, of_others + from - first,
                     flat.row_range(from - begin, to - begin)});
  }
}

void read_into(const std::string& path, const std::vector<ReadPart>& parts) {
  std::map<std::string, StoredTensor> stored;
  for (StoredTensor& t : read_safetensors(path)) stored.emplace(t.name, std::move(t));
  const auto has_codes = [](const auto& names, auto&& name) {
    return std::any_of(names.begin(), names.end(),
                       [&](const auto& x) { return std::string(name(x)).find(".codes/") != std::string::npos; });
  };
  const bool coded = has_codes(parts, [](const ReadPart& part) { return part.name; });
  if (coded != has_codes(stored, [](const auto& entry) { return entry.first; }))
    throw Error(fmt::format("checkpoint: {} has the states of optimizer.states: {}, expected those of {}", path,
                            coded ? "float32" : "int8", coded ? "int8" : "float32"),
                "a run goes on with the states that it began with");
  for (const ReadPart& part : parts) {
    const auto found = stored.find(part.name);
    check(found != stored.end(), "checkpoint", "{} lacks the tensor {}", path, part.name);
    const StoredTensor& t = found->second;
    const DType dtype = part.target.dtype();  // of four bytes
    check(t.dtype == dtype && Shape(t.shape.begin(), t.shape.end()) == part.shape, "checkpoint",
          "{}: {} is {} of {} elements, expected {} {}", path, part.name, t.type_name, t.bytes / 4, part.shape,
          name(dtype));
    part.target.copy_from(Tensor::wrap(t.data + 4 * part.begin, part.target.shape(), dtype, t.file));
    stored.erase(found);
  }
  check(stored.empty(), "checkpoint", "{} has the tensor {}, which this run does not train", path,
        stored.empty() ? "" : stored.begin()->first);
}

// Whole checkpoints, the oldest first.
std::vector<fs::path> checkpoints_in(const std::string& folder) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.find('.') == std::string::npos) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

void save_checkpoint(const std::string& folder, const Trainer& trainer, const RunState& state, int64_t keep) {
  const fs::path target = fs::path(folder) / fmt::format("step-{:08}", state.steps);
  const NamedTensors states = states_of(trainer), weights = weights_of(trainer);
  if (!trainer.ranks().is_first()) return;
  if (!fs::exists(target)) {
    AtomicFolder checkpoint(target.string());
    const fs::path path(checkpoint.path());
    write_safetensors((path / "weights.safetensors").string(), weights);
    write_safetensors((path / "optimizer.safetensors").string(), states);
    const nlohmann::ordered_json json = {
        {"steps", state.steps},     {"updates", state.updates}, {"tokens", state.tokens}, {"targets", state.targets},
        {"seconds", state.seconds}, {"data", state.data_key},   {"norms", trainer.norms}};
    AtomicFile file((path / "state.json").string());
    file.write(json.dump(2) + "\n");
    file.commit();
    checkpoint.commit();
  }
  std::vector<fs::path> all = checkpoints_in(folder);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i) fs::remove_all(all[i]);
}

std::optional<std::string> newest_checkpoint(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".partial") fs::remove_all(entry.path(), ignored);
  const std::vector<fs::path> all = checkpoints_in(folder);
  if (all.empty()) return std::nullopt;
  return all.back().string();
}

RunState load_checkpoint(const std::string& checkpoint, Trainer& trainer, const std::string& data_key) {
  const std::string path = (fs::path(checkpoint) / "state.json").string();
  const nlohmann::json json = read_strict_json(path);
  RunState state;
  try {
    state = {json.at("steps").get<int64_t>(),   json.at("updates").get<int64_t>(), json.at("tokens").get<int64_t>(),
             json.at("targets").get<int64_t>(), json.at("seconds").get<double>(),  json.at("data").get<std::string>()};
    trainer.norms = json.at("norms").get<std::vector<double>>();
  } catch (const nlohmann::json::exception&) {
    throw Error(fmt::format(
        "checkpoint: {} lacks a key, expected steps, updates, tokens, targets, seconds, data and norms", path));
  }
  if (state.data_key != data_key)
    throw Error(fmt::format("checkpoint: {}: the run was trained on data {}, found {}", path, state.data_key, data_key),
                "a run goes on with the same data, tokenizer and context; start another one with --output DIR");
  std::vector<ReadPart> weights, states;
  add_parts(weights, trainer.arena(), trainer.arena().values(), layout_of(trainer.arena()), 0, "");
  for (const Optimizer::State& s : trainer.optimizer().states())
    add_parts(states, trainer.arena(), s.values, layout_of(s), s.begin, s.name + "/");
  read_into((fs::path(checkpoint) / "weights.safetensors").string(), weights);
  read_into((fs::path(checkpoint) / "optimizer.safetensors").string(), states);
  trainer.steps_done = state.steps;
  trainer.updates_done = state.updates;
  return state;
}

}  // namespace lathe
