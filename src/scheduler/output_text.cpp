#include "scheduler/output_text.h"

#include <algorithm>

#include "base/check.h"

namespace syncyte {

namespace {

// U+FFFD, byte by byte: as a literal, an assembler older than the compiler does not know how it is written.
void append_replacement(std::string& out) {
    out += '\xEF';
    out += '\xBF';
    out += '\xBD';
}

unsigned char at(std::string_view bytes, std::size_t i) { return static_cast<unsigned char>(bytes[i]); }

// Length of the character that `lead` begins; 0 when no character begins so.
std::size_t length_of(unsigned char lead) {
    if (lead < 0x80) return 1;
    if (lead >= 0xC2 && lead <= 0xDF) return 2;
    if (lead >= 0xE0 && lead <= 0xEF) return 3;
    if (lead >= 0xF0 && lead <= 0xF4) return 4;
    return 0;
}

bool continues(unsigned char lead, std::size_t index, unsigned char byte) {
    if (index == 1) {  // no overlong forms, no surrogates, nothing beyond U+10FFFF
        if (lead == 0xE0) return byte >= 0xA0 && byte <= 0xBF;
        if (lead == 0xED) return byte >= 0x80 && byte <= 0x9F;
        if (lead == 0xF0) return byte >= 0x90 && byte <= 0xBF;
        if (lead == 0xF4) return byte >= 0x80 && byte <= 0x8F;
    }
    return byte >= 0x80 && byte <= 0xBF;
}

}  // namespace

std::size_t append_valid_utf8(std::string_view bytes, std::string& out) {
    std::size_t i = 0;
    while (i < bytes.size()) {
        const unsigned char lead = at(bytes, i);
        const std::size_t length = length_of(lead);
        std::size_t good = length == 0 ? 0 : 1;
        while (good > 0 && good < length && i + good < bytes.size() &&
               continues(lead, good, at(bytes, i + good))) {
            ++good;
        }
        if (good == length && length > 0) {
            out += bytes.substr(i, length);
            i += length;
        } else if (length > 0 && i + good == bytes.size()) {
            return good;
        } else {
            append_replacement(out);
            i += std::max<std::size_t>(good, 1);
        }
    }
    return 0;
}

void OutputText::show(std::string_view bytes, std::string& out) {
    incomplete_ += bytes;
    const std::size_t rest = append_valid_utf8(incomplete_, out);
    incomplete_.erase(0, incomplete_.size() - rest);
}

// Bytes at the end of pending_ that begin a stop string.
std::size_t OutputText::held_for_stops() const {
    std::size_t held = 0;
    for (const std::string& stop : stops_) {
        for (std::size_t size = std::min(stop.size() - 1, pending_.size()); size > held; --size) {
            if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, size))) {
                held = size;
                break;
            }
        }
    }
    return held;
}

bool OutputText::append(std::string_view bytes, std::string& out) {
    if (stops_.empty()) {
        show(bytes, out);
        return false;
    }
    pending_ += bytes;
    std::size_t first = std::string::npos;
    for (const std::string& stop : stops_) {
        check(!stop.empty(), "an empty stop string");
        first = std::min(first, pending_.find(stop));
    }
    if (first != std::string::npos) {
        pending_.erase(first);
        finish(out);
        return true;
    }
    const std::size_t free = pending_.size() - held_for_stops();
    show(std::string_view(pending_).substr(0, free), out);
    pending_.erase(0, free);
    return false;
}

void OutputText::finish(std::string& out) {
    show(pending_, out);
    pending_.clear();
    if (!incomplete_.empty()) append_replacement(out);
    incomplete_.clear();
}

}  // namespace syncyte
