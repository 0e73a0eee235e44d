// When two paths name the same file.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <string>

#include "base/error.h"

namespace syncyte {

// A file as it was at one moment: another file, or other contents, give another one.
struct FileId {
    dev_t device;
    ino_t inode;
    off_t size;
    std::int64_t changed;  // nanoseconds

    friend auto operator<=>(const FileId&, const FileId&) = default;
};

// kNotFound, kIo: not there, or not to be looked at. kInvalidArgument: not a path.
Result<FileId> identify(const std::string& path);

}  // namespace syncyte
