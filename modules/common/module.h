// A module is any struct with `visit(Visitor&)`, which names each child once under the checkpoint's name.
// Loading, saving, counting, initialising, packing and printing are visitors; there is no base class. A module with a
// constant `kPart` says what its parameters, and those of its children, belong to.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "autograd/parameter.h"

namespace lathe {

class Visitor {
 public:
  using Function = std::function<void(const NamedParameter& parameter)>;
  explicit Visitor(Function function) : function_(std::move(function)) {}

  // Visits a child under `name`: a Parameter, a module, or a vector of modules (whose children are named by index).
  // A name may hold dots ("mlp.experts") or be empty (the child's own children follow without a level of their own).
  template <class Child>
  void operator()(std::string_view name, Child& child) {
    const size_t length = path_.size();
    if (!path_.empty() && !name.empty()) path_ += '.';
    path_ += name;
    if constexpr (std::is_same_v<Child, Parameter>) {
      function_({path_, &child, part_});
    } else if constexpr (requires { child.visit(*this); }) {
      const ModelPart outer = part_;
      if constexpr (requires { Child::kPart; }) part_ = Child::kPart;
      child.visit(*this);
      part_ = outer;
    } else {
      for (size_t i = 0; i < child.size(); ++i) (*this)(std::to_string(i), child[i]);
    }
    path_.resize(length);
  }

 private:
  Function function_;
  std::string path_;
  ModelPart part_ = ModelPart::other;
};

}  // namespace lathe
