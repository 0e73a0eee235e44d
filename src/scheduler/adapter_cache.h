// The LoRA adapters of one model that somebody uses: one file is in memory once.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.h"
#include "engine/model.h"
#include "scheduler/file_id.h"

namespace syncyte {

// Any thread. It keeps none of them alive.
class AdapterCache {
  public:
    // Of `model`, always the same one. Errors as Model::load_adapter(). One is loaded at a time.
    Result<std::shared_ptr<const Adapter>> get(const Model& model, const std::string& path);

  private:
    std::mutex mutex_;
    std::map<FileId, std::weak_ptr<const Adapter>> adapters_;
};

}  // namespace syncyte
