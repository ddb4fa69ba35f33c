// Fills parameters from a checkpoint's tensors, and the way back.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "autograd/parameter.h"
#include "formats/stored_tensor.h"
#include "load_model/weight_mapping.h"

namespace lathe {

// Sets every parameter's `value`: a view of the mapped file where the rule is the identity, else a copy, rows moved.
// `loaded` is called after each parameter is set, so that it can be packed or converted before the next one is read
// (peak memory is then the packed model and one tensor); the mapped pages behind it are released afterwards.
//
// Throws one Error that lists every missing parameter (with the nearest name among the unexpected ones), every
// unexpected tensor and every misshapen one (expected, found), and every tensor of a type that the library lacks.
void load_parameters(const std::vector<NamedParameter>& parameters, const std::vector<StoredTensor>& tensors,
                     const WeightMapping& mapping, const std::string& source,
                     const std::function<void(const NamedParameter&)>& loaded = {});

// The parameters of a checkpoint, read one at a time. What it is made of must outlive it.
class ParameterReader {
 public:
  // Throws the Error of load_parameters.
  ParameterReader(const std::vector<NamedParameter>& parameters, const std::vector<StoredTensor>& tensors,
                  const WeightMapping& mapping, const std::string& source);
  ~ParameterReader();
  // As the checkpoint stores parameter number `i`.
  DType dtype(size_t i) const;
  // Its value: a view of the mapped file where the rule is the identity, else a copy, rows moved. Where ranks share it
  // out: this rank's rows.
  Tensor read(size_t i) const;
  // Gives the mapped pages of its tensors back, unless `parameter` still reads them.
  void release(size_t i, const Parameter& parameter) const;

 private:
  struct Assignment;
  std::vector<Assignment> assignments_;
};

// A tensor of a checkpoint that is to be written, known before any value is.
struct CheckpointTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<std::string> parameters;  // whose values it holds
  // Their values, all of one dtype, in this tensor's place and shape.
  std::function<Tensor(const std::vector<Tensor>& values)> assemble;
};

// The tensors that hold these parameters (name, shape) by the rules, in the order of the parameters. The mapping must
// outlive the result.
std::vector<CheckpointTensor> checkpoint_tensors(const std::vector<std::pair<std::string, Shape>>& parameters,
                                                 const WeightMapping& mapping);

// The other way: `values` under the model's names become tensors under the checkpoint's names and in its shapes.
std::vector<std::pair<std::string, Tensor>> to_checkpoint(const std::vector<std::pair<std::string, Tensor>>& values,
                                                          const WeightMapping& mapping);

}  // namespace lathe
