// Who may ask: keys, origins, and how much may be received at once.
#pragma once
#include "serve/server.h"

namespace lathe {

// The key that a request brings, from 1; 0: none of them. It takes as long for a wrong key as for a right one.
int64_t key_index(const HttpRequest& request, const std::vector<std::string>& keys);

// With a request's headers alone: what this responds refuses the request, and a browser's OPTIONS is answered. Health
// is for whoever watches; all else is for who has a key, and for pages that may ask. `held_bytes`: of bodies that are
// being received or worked on.
void admit(Exchange& exchange, const ServerOptions& options, size_t held_bytes);

}  // namespace lathe
