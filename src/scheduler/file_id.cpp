#include "scheduler/file_id.h"

#include <sys/stat.h>

#include <cerrno>
#include <system_error>

namespace syncyte {

Result<FileId> identify(const std::string& path) {
    struct stat status{};
    if (path.find('\0') != std::string::npos) {
        return failure(ErrorCode::kInvalidArgument, "a path cannot hold a null character");
    }
    if (::stat(path.c_str(), &status) != 0) {
        const int error = errno;
        const bool missing = error == ENOENT || error == ENOTDIR;
        return failure(missing ? ErrorCode::kNotFound : ErrorCode::kIo,
                       path + ": " + (missing ? "no such file" : std::generic_category().message(error)));
    }
    return FileId{status.st_dev, status.st_ino, status.st_size,
                  status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
}

}  // namespace syncyte
