// Turns the bytes of generated tokens into text that may be shown.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace syncyte {

// What it gives out is valid UTF-8 at every boundary, and never holds any part of a stop string: bytes that
// may yet become one, or an unfinished character, wait. Bytes that are no UTF-8 become U+FFFD, as Python's
// errors="replace" does it. One thread.
class OutputText {
  public:
    // Empty stop strings are not allowed.
    explicit OutputText(std::vector<std::string> stops) : stops_(std::move(stops)) {}

    // Takes the bytes of one token and appends what may be shown now to `out`. True when a stop string is
    // complete: everything before it has been appended, and nothing may follow.
    bool append(std::string_view bytes, std::string& out);
    // The generation ended without a stop string: appends what was held back.
    void finish(std::string& out);

  private:
    [[nodiscard]] std::size_t held_for_stops() const;
    void show(std::string_view bytes, std::string& out);

    std::vector<std::string> stops_;
    std::string pending_;     // may be the beginning of a stop string
    std::string incomplete_;  // an unfinished character at the end of what was shown
};

// Appends `bytes` to `out` as valid UTF-8, U+FFFD for each maximal ill-formed part. Returns how many bytes at
// the end are an unfinished but so far well-formed character, which are not appended.
std::size_t append_valid_utf8(std::string_view bytes, std::string& out);

}  // namespace syncyte
