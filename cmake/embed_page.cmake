# cmake -DROOT=... -DOUTPUT=... -P: the files of the server's page as a source file (serve/page.h).
file(GLOB files RELATIVE ${ROOT} ${ROOT}/*)
list(SORT files)
set(all "")
foreach(name IN LISTS files)
  file(READ ${ROOT}/${name} text)
  file(SHA256 ${ROOT}/${name} hash)
  string(SUBSTRING ${hash} 0 16 hash)
  string(APPEND all "    {\"${name}\", \"\\\"${hash}\\\"\", R\"page(${text})page\"},\n")
endforeach()
file(WRITE ${OUTPUT} "// Made by cmake/embed_page.cmake.\n#include \"serve/page.h\"\n\nnamespace lathe {\n\n"
  "const std::vector<PageFile>& page_files() {\n  static const std::vector<PageFile> files = {\n${all}  };\n"
  "  return files;\n}\n\n}  // namespace lathe\n")
