// The two forms that a model is written in; export.h chooses one by the output's name.
#pragma once
#include <string>
#include <vector>

#include "llm/export.h"
#include "llm/weight_source.h"

namespace lathe {

// A folder, or one .safetensors file. Both return what a user should know of the result, one line each.
std::vector<std::string> write_hugging_face(const OutgoingModel& model, const std::string& output,
                                            const ExportOptions& options);
std::vector<std::string> write_gguf_file(const OutgoingModel& model, const std::string& output,
                                         const ExportOptions& options);

}  // namespace lathe
