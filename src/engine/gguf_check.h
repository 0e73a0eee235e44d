// Looks at the header of a GGUF file before libllama does, so that damage is found by code that reports it.
#pragma once

#include <string>

#include "base/error.h"

namespace syncyte {

// Reads the header only (metadata and tensor directory): a few milliseconds for a large vocabulary.
// kNotFound, kIo: cannot be opened or read. kModel: not GGUF, truncated, or inconsistent; the message says
// where. Success means well-formed, not that libllama supports the model.
Result<void> check_gguf(const std::string& path);

}  // namespace syncyte
