#include "base/ref.h"

#include <new>
#include <vector>

namespace syncyte {

// The same idea as CPython's trashcan.
void RefCounted::destroy() const noexcept {
    struct Burial {
        int depth = 0;
        std::vector<const RefCounted*> waiting;
    };
    // Of the outermost release() on this thread; a bare pointer, so that destructors of other thread-local
    // objects may still release.
    thread_local constinit Burial* burial = nullptr;
    constexpr int kDeepest = 16;
    if (burial == nullptr) {
        Burial mine;
        burial = &mine;
        delete this;
        while (!mine.waiting.empty()) {
            const RefCounted* next = mine.waiting.back();
            mine.waiting.pop_back();
            delete next;
        }
        burial = nullptr;
        return;
    }
    if (burial->depth >= kDeepest) {
        try {
            burial->waiting.push_back(this);
            return;
        } catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch): then it nests deeper
        }
    }
    ++burial->depth;
    delete this;
    --burial->depth;
}

}  // namespace syncyte
