// The fields of a request's body. Each endpoint names every field it knows; one that it does not name is refused, and
// so is a value that would change the answer and cannot be had. Options of a request (temperature, stop, ...) are those
// of RequestOptions: what that list gains, the APIs gain.
#pragma once
#include <functional>
#include <initializer_list>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "generate/request_options.h"
#include "serve/api_error.h"

namespace lathe {

class RequestFields {
 public:
  // Throws ApiError where `body` is no object.
  explicit RequestFields(const OrderedJsonNode& body);

  // f(node) where the field is there and not null. What goes wrong in it is blamed on the field.
  void read(const std::string& name, const std::function<void(const OrderedJsonNode&)>& f);
  // The field sets the option of RequestOptions, whose name may be another one.
  void option(RequestOptions& options, const std::string& name, const std::string& option);
  // What the engine calls `option` is this field to a client.
  void calls(const std::string& option, const std::string& name) { field_of_option_[option] = name; }
  // All options that a field of the same name sets: sampling, stop, ignore_eos, skip_special_tokens.
  void sampling(RequestOptions& options);
  bool given(const std::string& name);
  bool flag(const std::string& name, bool otherwise);
  // Change no answer, whatever their values.
  void ignore(std::initializer_list<const char*> names);
  // Refused unless the value is `harmless`: what the endpoint does anyway.
  void only(const std::string& name, const nlohmann::ordered_json& harmless);

  // Throws ApiError naming a field that none of the above has named.
  void finish() const;
  // The request's fault in the words of the API.
  ApiError blame(const RequestError& error) const;

 private:
  const OrderedJsonNode& body_;
  std::set<std::string> known_;
  std::map<std::string, std::string> field_of_option_;
};

// A list of ids.
std::vector<int32_t> read_ids(const OrderedJsonNode& list);
// A text, a list of ids, or each member of a list of such, of at most `most`.
std::vector<OrderedJsonNode> read_texts(const OrderedJsonNode& node, size_t most);

}  // namespace lathe
