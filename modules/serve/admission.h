// Who may ask: keys, origins, and how much may be received at once.
#pragma once
#include "serve/server.h"

namespace lathe {

// With a request's headers alone: what this responds refuses the request, and a browser's OPTIONS is answered. Health
// is for whoever watches; all else is for who has a key, and for pages that may ask. `held_bytes`: of bodies that are
// being received or worked on.
void admit(Exchange& exchange, const ServerOptions& options, size_t held_bytes);

}  // namespace lathe
