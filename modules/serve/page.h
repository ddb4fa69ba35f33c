// The browser's side of the server: `/` and `/page/...` are the files of modules/serve/page, which the build makes part
// of the program (cmake/embed_page.cmake).
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "serve/http_server.h"

namespace lathe {

struct PageFile {
  std::string_view name, etag, text;
};

const std::vector<PageFile>& page_files();
bool is_page(const std::string& path);
// False where the request is for something else.
bool respond_page(Exchange& exchange);

}  // namespace lathe
