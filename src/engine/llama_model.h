// The real model: weights and vocabulary of a GGUF file, by libllama.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"
#include "engine/model.h"

namespace syncyte {

// Checks and loads the file; takes as long as reading it. kNotFound, kIo: cannot be opened. kModel: not a
// usable model, and the message says why; the process goes on. Any thread, several at once.
Result<std::shared_ptr<const Model>> load_llama_model(const std::string& path);

}  // namespace syncyte
