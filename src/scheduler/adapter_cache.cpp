#include "scheduler/adapter_cache.h"

#include <utility>

namespace syncyte {

Result<std::shared_ptr<const Adapter>> AdapterCache::get(const Model& model, const std::string& path) {
    const Result<FileId> file = identify(path);
    if (!file) return std::unexpected(file.error());
    const std::scoped_lock lock(mutex_);
    std::erase_if(adapters_, [](const auto& entry) { return entry.second.expired(); });
    if (const auto known = adapters_.find(*file); known != adapters_.end()) {
        if (auto adapter = known->second.lock()) return adapter;
    }
    Result<std::shared_ptr<const Adapter>> adapter = model.load_adapter(path);
    if (adapter) adapters_[*file] = *adapter;
    return adapter;
}

}  // namespace syncyte
