// The devices that a model is loaded onto. Private to the engine: includes ggml's headers.
#pragma once

#include <ggml-backend.h>

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace syncyte {

// `names`: of this machine's accelerators, as ggml calls them; nothing: all of them. `rpc`: "host:port" of
// servers, whose devices come first. For llama_model_params: ends with a null pointer. kInvalidArgument: an
// unknown name. kModel: libggml has no RPC backend, or a server does not answer within seconds.
// Under a LlamaGuard.
Result<std::vector<ggml_backend_dev_t>> find_devices(const std::optional<std::vector<std::string>>& names,
                                                     const std::vector<std::string>& rpc);

}  // namespace syncyte
