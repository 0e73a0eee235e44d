// What the core reports instead of throwing: an Error is a value, carried by std::expected.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

namespace syncyte {

enum class ErrorCode : std::uint8_t {
    kClosed,           // the other side is gone, or the object was shut down
    kFull,             // no room now
    kEmpty,            // nothing there now
    kTimedOut,         // the deadline passed
    kCancelled,        // the caller, or somebody on its behalf, gave up
    kInterrupted,      // a signal arrived: look at it, then wait again
    kOverloaded,       // more work than the configured limit
    kInvalidArgument,  // the caller's input is wrong; the message says what would be right
    kNotFound,         // no such file or object
    kIo,               // the operating system refused
    kModel,            // a model file or its execution failed
};

// `message` is for a person: what was wrong and what would be right. Empty where the code says it all
// (kClosed to kInterrupted on the channels' hot path).
struct Error {
    ErrorCode code;
    std::string message;

    // Implicit, so that `return std::unexpected(ErrorCode::kClosed)` reads as it should.
    Error(ErrorCode error_code, std::string text = {}) : code(error_code), message(std::move(text)) {}
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> failure(ErrorCode code, std::string message = {}) {
    return std::unexpected<Error>(std::in_place, code, std::move(message));
}

}  // namespace syncyte
