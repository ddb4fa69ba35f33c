// See load_parameters.h. Every rule is a bijection of rows: the sources' rows (after transposition), one source after
// another, against the targets' rows, one target after another. Loading reads it one way, to_checkpoint the other.
#include "load_model/load_parameters.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "config/nearest_name.h"
#include "formats/quote.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

using Dims = std::vector<int64_t>;

std::string print(const Dims& dims) { return fmt::format("({})", fmt::join(dims, ", ")); }

// A tensor as rows of `width` elements; a vector is a column of single elements.
struct RowForm {
  int64_t rows = 1, width = 1;
  explicit RowForm(const Dims& dims) {
    for (size_t i = 0; i < dims.size(); ++i) (i == 0 || i + 1 < dims.size() ? rows : width) *= dims[i];
  }
};

}  // namespace

// A rule with its names filled in, and the shapes that follow from its targets.
struct BoundRule {
  std::vector<std::string> sources, targets;
  const MappingRule* rule = nullptr;  // null: the identity
  std::vector<Dims> target_dims;

  bool transposed() const { return rule && rule->transposed; }

  // The shape of every source before transposition undone: what the rows are counted in.
  Dims row_dims() const {
    Dims dims = target_dims[0];
    for (size_t i = 1; i < targets.size(); ++i) dims[0] += target_dims[i][0];
    const auto count = static_cast<int64_t>(sources.size());
    if (count == 1) return dims;
    // Experts stacked along a dimension of their own, or simply one below another.
    if (dims.size() > 2 && dims[0] == count)
      dims.erase(dims.begin());
    else
      dims[0] /= count;
    return dims;
  }
  // The shape of every source as the checkpoint has it.
  Dims source_dims() const {
    Dims dims = row_dims();
    if (transposed()) std::reverse(dims.begin(), dims.end());
    if (rule && rule->stacked > 0) {
      dims[0] /= rule->stacked;
      dims.insert(dims.begin(), rule->stacked);
    }
    return dims;
  }
  // The row among all sources' rows where row `row` of target number `target` lies.
  int64_t source_row(size_t target, int64_t row) const {
    if (rule && rule->source_row) return rule->source_row(static_cast<int64_t>(target), row);
    return first_row(target) + row;
  }
  int64_t first_row(size_t target) const {
    int64_t first = 0;
    for (size_t i = 0; i < target; ++i) first += RowForm(target_dims[i]).rows;
    return first;
  }
  // Whether a target is a run of rows of the one source.
  bool contiguous() const { return !rule || (sources.size() == 1 && !rule->transposed && !rule->source_row); }
};

// What fills one parameter.
struct Filling {
  BoundRule bound;
  size_t target = 0;
  std::vector<const StoredTensor*> stored;
  Dims dims;              // of what is read: the target, or some of its rows
  int64_t first_row = 0;  // of the target that is read
};

namespace {

using DimsByName = std::function<const Dims&(const std::string& name)>;

BoundRule bind_rule(const WeightMapping& mapping, const std::string& target, const DimsByName& dims_of,
                    size_t* target_index) {
  BoundRule bound;
  *target_index = 0;
  const auto match = mapping.rule_for(target);
  if (!match) {
    bound.sources = bound.targets = {target};
  } else {
    bound.rule = match->rule;
    *target_index = match->target;
    for (const std::string& name : match->rule->sources) bound.sources.push_back(fill_name(name, match->numbers));
    for (const std::string& name : match->rule->targets) bound.targets.push_back(fill_name(name, match->numbers));
  }
  for (const std::string& name : bound.targets) bound.target_dims.push_back(dims_of(name));
  const Dims& first = bound.target_dims[0];
  for (const Dims& dims : bound.target_dims)
    check(dims.size() == first.size() && !dims.empty() && std::equal(dims.begin() + 1, dims.end(), first.begin() + 1),
          "weight_mapping", "{} and {} are parts of one tensor, but their rows differ: {} and {}", bound.targets[0],
          target, print(first), print(dims));
  check(!bound.transposed() || first.size() == 2, "weight_mapping", "{} is transposed, but its shape is {}", target,
        print(first));
  return bound;
}

// Copies rows: (begin of the row with this number among all sources' rows) -> (rows of one target, one after another).
void gather_rows(const Filling& filling, const std::vector<const uint8_t*>& sources, size_t row_bytes, uint8_t* out) {
  const BoundRule& bound = filling.bound;
  const size_t target = filling.target;
  const int64_t first = filling.first_row, end = first + RowForm(filling.dims).rows;
  const int64_t rows_per_source = RowForm(bound.row_dims()).rows;
  for (int64_t r = first; r < end; ++r) {
    const int64_t row = bound.source_row(target, r);
    check(row >= 0 && row < rows_per_source * static_cast<int64_t>(sources.size()), "weight_mapping",
          "{}: row {} comes from row {} of {}", bound.targets[target], r, row, rows_per_source);
    const uint8_t* source = sources[static_cast<size_t>(row / rows_per_source)];
    std::memcpy(out + static_cast<size_t>(r - first) * row_bytes,
                source + static_cast<size_t>(row % rows_per_source) * row_bytes, row_bytes);
  }
}

// (rows, columns) of `Element` -> (columns, rows). Sixteen rows of the result at a time: a cache line of each row of
// the source is then read once. Bytes are copied, because a source may lie at any address of a mapped file.
template <class Element>
void transpose(const uint8_t* source, int64_t rows, int64_t columns, uint8_t* out) {
  constexpr int64_t kBlock = 16;
  parallel_for(columns, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block += kBlock)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = block; c < std::min(block + kBlock, end); ++c)
          std::memcpy(out + static_cast<size_t>(c * rows + r) * sizeof(Element),
                      source + static_cast<size_t>(r * columns + c) * sizeof(Element), sizeof(Element));
  });
}

Tensor transposed_copy(const uint8_t* source, const Dims& dims, DType dtype) {
  Tensor out = Tensor::empty({dims[1], dims[0]}, dtype);
  auto* to = static_cast<uint8_t*>(out.raw());
  switch (info(dtype).block_bytes) {
    case 2: transpose<uint16_t>(source, dims[0], dims[1], to); break;
    case 4: transpose<uint32_t>(source, dims[0], dims[1], to); break;
    default: transpose<uint64_t>(source, dims[0], dims[1], to); break;
  }
  return out;
}

// The value of one target. The sources have been checked against the rule's shapes and are of one type.
Tensor assemble(const Filling& filling) {
  const auto& [bound, target, stored, dims, first] = filling;
  const DType dtype = *stored[0]->dtype;
  const Shape shape(dims.begin(), dims.end());
  const RowForm form(dims);
  const bool whole = dims == bound.target_dims[target];
  const size_t row_bytes = bytes_of(dtype, form.width);
  if (bound.contiguous()) {
    const uint8_t* data = stored[0]->data + static_cast<size_t>(bound.first_row(target) + first) * row_bytes;
    const auto alignment = static_cast<uintptr_t>(is_quantised(dtype) ? 2 : info(dtype).block_bytes);
    if (reinterpret_cast<uintptr_t>(data) % alignment == 0) return Tensor::wrap(data, shape, dtype, stored[0]->file);
  }
  std::vector<const uint8_t*> sources;
  std::vector<Tensor> turned;  // keeps the transposed copies
  for (const StoredTensor* tensor : stored) {
    if (bound.transposed()) turned.push_back(transposed_copy(tensor->data, tensor->shape, dtype));
    sources.push_back(bound.transposed() ? static_cast<const uint8_t*>(turned.back().raw()) : tensor->data);
  }
  if (bound.transposed() && bound.targets.size() == 1 && stored.size() == 1 && !bound.rule->source_row && whole)
    return turned[0];
  Tensor value = Tensor::empty(shape, dtype);
  gather_rows(filling, sources, row_bytes, static_cast<uint8_t*>(value.raw()));
  return value;
}

// Everything that is wrong with a checkpoint, gathered for one message.
class Report {
 public:
  void missing(const std::string& name) { add(missing_, name); }
  void unexpected(const std::string& name) { add(unexpected_, name); }
  void misshapen(const StoredTensor& t, const Dims& expected) {
    add(misshapen_, fmt::format("{} is {}, expected {}", quote(t.name), print(t.shape), print(expected)));
  }
  void unsupported(const StoredTensor& t, const char* expected) {
    add(unsupported_, fmt::format("{} is {}, expected {}", quote(t.name), t.type_name, expected));
  }
  void throw_if_any(const std::string& source) const {
    if (missing_.empty() && unexpected_.empty() && misshapen_.empty() && unsupported_.empty()) return;
    std::vector<std::string> missing, unexpected;
    // Comparing every pair of many names takes long, and then the files have nothing in common anyway.
    const bool compare = missing_.size() * unexpected_.size() <= 20'000;
    for (const std::string& name : missing_) {
      const auto nearest = compare ? nearest_name(name, unexpected_) : std::nullopt;
      missing.push_back(quote(name) + (nearest ? fmt::format(" (the file has {})", quote(*nearest)) : ""));
    }
    for (const std::string& name : unexpected_) unexpected.push_back(quote(name));
    std::vector<std::string> parts;
    const auto describe = [&](const std::vector<std::string>& items, const char* what) {
      if (!items.empty()) parts.push_back(fmt::format("{} {}: {}", items.size(), what, fmt::join(items, ", ")));
    };
    describe(missing, "missing");
    describe(unexpected, "unexpected");
    describe(misshapen_, "of another shape");
    describe(unsupported_, "of a type that is not supported");
    throw Error(fmt::format("load: {}: tensors do not fit the configuration: {}", source, fmt::join(parts, "; ")));
  }

 private:
  // A tensor that fills several parameters is met several times.
  void add(std::vector<std::string>& list, const std::string& item) {
    if (seen_.insert(item).second) list.push_back(item);
  }
  std::vector<std::string> missing_, unexpected_, misshapen_, unsupported_;
  std::unordered_set<std::string> seen_;
};

const char* wrong_type(const StoredTensor& tensor, const StoredTensor& first, const Parameter& parameter,
                       bool transposed) {
  if (!tensor.dtype || *tensor.dtype == DType::i32)
    return "f32, f16, bf16 or one of q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs";
  if (tensor.dtype != first.dtype) return "the type of the others that it is stacked with";
  if (is_quantised(*tensor.dtype) && (parameter.is_vector() || transposed)) return "f32, f16 or bf16";
  return nullptr;
}

class Loader {
 public:
  Loader(const std::vector<NamedParameter>& parameters, const std::vector<StoredTensor>& tensors,
         const WeightMapping& mapping)
      : parameters_(parameters), mapping_(mapping) {
    for (const NamedParameter& named : parameters) {
      const Shape& shape = named.parameter->shape;
      Dims& dims = dims_[named.name] = Dims(shape.begin(), shape.end());
      if (const auto& shard = named.parameter->shard) dims[0] = shard->whole();
    }
    for (const StoredTensor& tensor : tensors) by_name_.emplace(tensor.name, &tensor);
  }

  // Checks everything before anything is set.
  std::vector<Filling> plan(const std::vector<StoredTensor>& tensors, const std::string& source) {
    std::vector<Filling> assignments;
    std::unordered_set<std::string> used;
    Report report;
    for (const NamedParameter& named : parameters_) {
      Filling a;
      a.bound = bind_rule(
          mapping_, named.name, [&](const std::string& n) -> const Dims& { return dims(n); }, &a.target);
      for (const std::string& name : a.bound.sources) {
        used.insert(name);
        const auto found = by_name_.find(name);
        if (found == by_name_.end())
          report.missing(name);
        else
          a.stored.push_back(found->second);
      }
      a.dims = dims(named.name);
      if (a.dims[0] != named.parameter->shape[0]) {
        a.first_row = named.parameter->shard->first();
        a.dims[0] = named.parameter->shard->count();
      }
      for (const StoredTensor* tensor : a.stored) check_tensor(*tensor, a, *named.parameter, report);
      assignments.push_back(std::move(a));
    }
    for (const StoredTensor& tensor : tensors)
      if (!used.contains(tensor.name) && !mapping_.skips(tensor.name)) report.unexpected(tensor.name);
    report.throw_if_any(source);
    return assignments;
  }

 private:
  const Dims& dims(const std::string& name) const {
    const auto found = dims_.find(name);
    check(found != dims_.end(), "weight_mapping", "a rule names the parameter {}, which the model lacks", name);
    return found->second;
  }
  static void check_tensor(const StoredTensor& tensor, const Filling& a, const Parameter& parameter, Report& report) {
    const Dims expected = a.bound.source_dims();
    if (tensor.shape != expected) report.misshapen(tensor, expected);
    if (const char* type = wrong_type(tensor, *a.stored[0], parameter, a.bound.transposed()))
      report.unsupported(tensor, type);
  }

  const std::vector<NamedParameter>& parameters_;
  const WeightMapping& mapping_;
  std::unordered_map<std::string, Dims> dims_;
  std::unordered_map<std::string, const StoredTensor*> by_name_;
};

// One source of a rule, put together from the values of all its targets.
Tensor disassemble(const BoundRule& bound, size_t source, const std::vector<Tensor>& values) {
  if (bound.contiguous() && bound.targets.size() == 1) return values[0];
  const Dims row_dims = bound.row_dims();
  const RowForm form(row_dims);
  const DType dtype = values[0].dtype();
  for (size_t t = 0; t < values.size(); ++t)
    check(values[t].dtype() == dtype, "to_checkpoint", "{} is {}, the others of its tensor {}", bound.targets[t],
          name(values[t].dtype()), name(dtype));
  const size_t row_bytes = bytes_of(dtype, form.width);
  Tensor out = Tensor::empty(Shape(row_dims.begin(), row_dims.end()), dtype);
  const int64_t first = static_cast<int64_t>(source) * form.rows;
  for (size_t t = 0; t < values.size(); ++t) {
    const auto* from = static_cast<const uint8_t*>(values[t].raw());
    for (int64_t r = 0, rows = RowForm(bound.target_dims[t]).rows; r < rows; ++r) {
      const int64_t row = bound.source_row(t, r) - first;
      if (row < 0 || row >= form.rows) continue;
      std::memcpy(static_cast<uint8_t*>(out.raw()) + static_cast<size_t>(row) * row_bytes,
                  from + static_cast<size_t>(r) * row_bytes, row_bytes);
    }
  }
  if (bound.rule && bound.rule->stacked > 0) {
    const Dims dims = bound.source_dims();
    return out.view(Shape(dims.begin(), dims.end()));
  }
  if (!bound.transposed()) return out;
  return transposed_copy(static_cast<const uint8_t*>(out.raw()), row_dims, dtype);
}

}  // namespace

struct ParameterReader::Assignment : Filling {};

ParameterReader::ParameterReader(const std::vector<NamedParameter>& parameters,
                                 const std::vector<StoredTensor>& tensors, const WeightMapping& mapping,
                                 const std::string& source) {
  for (auto& assignment : Loader(parameters, tensors, mapping).plan(tensors, source))
    assignments_.push_back({std::move(assignment)});
}
ParameterReader::~ParameterReader() = default;

DType ParameterReader::dtype(size_t i) const { return *assignments_[i].stored[0]->dtype; }

Tensor ParameterReader::read(size_t i) const {
  const Assignment& a = assignments_[i];
  return assemble(a);
}

void ParameterReader::release(size_t i, const Parameter& parameter) const {
  const Assignment& a = assignments_[i];
  const bool last = a.target + 1 == a.bound.targets.size();
  for (const StoredTensor* tensor : a.stored) {
    const auto* value = parameter.value.defined() ? static_cast<const uint8_t*>(parameter.value.raw()) : nullptr;
    const std::less<const uint8_t*> before;
    const bool in_use = value && !before(value, tensor->data) && before(value, tensor->data + tensor->bytes);
    if (last && !in_use) tensor->file->release(tensor->data, tensor->bytes);
  }
}

void load_parameters(const std::vector<NamedParameter>& parameters, const std::vector<StoredTensor>& tensors,
                     const WeightMapping& mapping, const std::string& source,
                     const std::function<void(const NamedParameter&)>& loaded) {
  const ParameterReader reader(parameters, tensors, mapping, source);
  for (size_t i = 0; i < parameters.size(); ++i) {
    Parameter& parameter = *parameters[i].parameter;
    parameter.value = reader.read(i);
    if (!loaded) continue;
    loaded(parameters[i]);
    reader.release(i, parameter);
  }
}

std::vector<CheckpointTensor> checkpoint_tensors(const std::vector<std::pair<std::string, Shape>>& parameters,
                                                 const WeightMapping& mapping) {
  std::unordered_map<std::string, Dims> dims;
  for (const auto& [name, shape] : parameters) dims[name] = Dims(shape.begin(), shape.end());
  const auto dims_of = [&](const std::string& name) -> const Dims& {
    const auto found = dims.find(name);
    check(found != dims.end(), "to_checkpoint", "{} is missing: its checkpoint tensor holds others, too", name);
    return found->second;
  };
  std::vector<CheckpointTensor> tensors;
  std::unordered_set<std::string> done;
  for (const auto& named : parameters) {
    size_t target = 0;
    const auto bound = std::make_shared<const BoundRule>(bind_rule(mapping, named.first, dims_of, &target));
    if (!done.insert(bound->sources[0]).second) continue;
    for (size_t s = 0; s < bound->sources.size(); ++s)
      tensors.push_back({bound->sources[s], bound->source_dims(), bound->targets,
                         [bound, s](const std::vector<Tensor>& values) { return disassemble(*bound, s, values); }});
  }
  return tensors;
}

std::vector<std::pair<std::string, Tensor>> to_checkpoint(const std::vector<std::pair<std::string, Tensor>>& values,
                                                          const WeightMapping& mapping) {
  std::unordered_map<std::string, Tensor> by_name;
  std::vector<std::pair<std::string, Shape>> shapes;
  for (const auto& [name, value] : values) {
    by_name[name] = value.contiguous() ? value : value.clone();
    shapes.emplace_back(name, value.shape());
  }
  std::vector<std::pair<std::string, Tensor>> out;
  for (const CheckpointTensor& tensor : checkpoint_tensors(shapes, mapping)) {
    std::vector<Tensor> parts;
    for (const std::string& name : tensor.parameters) parts.push_back(by_name.at(name));
    out.emplace_back(tensor.name, tensor.assemble(parts));
  }
  return out;
}

}  // namespace lathe
