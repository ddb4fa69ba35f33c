# cmake -DROOT=... -DOUTPUT=... -P: a header with the hash of all headers that are installed. Plugins carry it, because
# they pass C++ objects that these headers define (modules/llm/plugin.h).
file(GLOB_RECURSE headers RELATIVE ${ROOT} ${ROOT}/modules/*.h ${ROOT}/kernels/*.h)
list(FILTER headers EXCLUDE REGEX "^modules/cli/")
list(SORT headers)
set(all "")
foreach(header IN LISTS headers)
  file(SHA256 ${ROOT}/${header} hash)
  string(APPEND all "${header} ${hash}\n")
endforeach()
string(SHA256 hash "${all}")
string(SUBSTRING ${hash} 0 16 hash)
file(WRITE ${OUTPUT} "// Made by cmake/headers_hash.cmake.\n#pragma once\n#define LATHE_HEADERS_HASH \"${hash}\"\n")
